"""`spinmeround generate`: views from the trained model, with a subcommand for each kind of input."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.flows.cli.shared.run_flow import run_flow
from spinmeround.models.diffusion.params import NormalsGuidance
from spinmeround.storage.errors import ConfigError, as_config_error, environment_errors

generate_app = typer.Typer(
    help="Generate views with the trained model of a run.\n\nWrites pictures, normals, cameras, a contact sheet, an "
    "animation, and a page on which the mouse turns the head.",
    no_args_is_help=True,
)

_sampling_option = partial(typer.Option, rich_help_panel="Sampling options")
_output_option = partial(typer.Option, rich_help_panel="Output options")
_normals_option = partial(typer.Option, rich_help_panel="Inferred normals")

IdentityOption = Annotated[
    str | None,
    typer.Option(
        help="Identity: id of a head, a .npy file with 512 numbers, or another photo of the face; default: detected, "
        "where the profile names a detector (embed.pack)."
    ),
]

MattingOption = Annotated[
    Path | None, typer.Option(help="Network of rembg (an .onnx file), which removes the background.")
]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How views are sampled."""

    anchors: Annotated[
        bool | None,
        _sampling_option(
            "--anchors/--no-anchors",
            help="Keep views consistent by seven anchor views; default: on for requests of more than one group.",
        ),
    ] = None
    solver: Annotated[Literal["euler", "heun", "dpmpp"], _sampling_option(help="ODE solver.")] = "euler"
    sampling_steps: Annotated[int, _sampling_option(min=1, help="Steps of the solver.")] = 50
    shift: Annotated[
        bool,
        _sampling_option("--shift", help="Multiply the noise levels by the root of the number of targets of a group."),
    ] = False
    guidance: Annotated[
        float | None, _sampling_option(min=0.0, help="Guidance scale; default: 3, or 3.5 without conditioning views.")
    ] = None
    batch: Annotated[
        int | None, _sampling_option(min=1, help="Groups of views per batch; default: as memory allows.")
    ] = None
    seed: Annotated[int, _sampling_option(min=0, help="Seed of the noise.")] = 0

    def values(self) -> dict[str, Any]:
        """The fields of `GenerationParams`."""
        return {
            "anchored": self.anchors,
            "solver": {"solver": self.solver},
            "schedule": {"steps": self.sampling_steps, "shift": self.shift},
            "guidance_scale": self.guidance,
            "batch": self.batch,
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model generates."""

    model: Annotated[
        str | None,
        typer.Option(
            help="'embedded', the model that ships, an alias or NAME@VERSION in the registry (such as production), "
            "or the folder of a pipeline, a MultiviewUNet or a checkpoint; default: the trained model of the run."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Which views are generated, and where they are written."""

    cameras: Annotated[
        str,
        _output_option(help="Views to generate: orbit:N at elevation 0, grid (the profile's), or a transforms.json."),
    ] = "orbit:7"
    to: Annotated[Path, _output_option(help="Folder for the files.")] = Path("generated")


@dataclass(frozen=True, kw_only=True)
class StripOptions(OutputOptions):
    """Output options for a strip of heads, by default from the front."""

    cameras: Annotated[
        str,
        _output_option(
            help="Views to generate of each head: orbit:N at elevation 0 (orbit:1 is the front), grid (the profile's), "
            "or a transforms.json."
        ),
    ] = "orbit:1"


@dataclass(frozen=True, kw_only=True)
class NormalsOptions:
    """How the normals of given pictures are inferred (the paper's Algorithm 1)."""

    normals_guidance: Annotated[
        NormalsGuidance, _normals_option(help="The paper's own step, or one that projects on the picture.")
    ] = "projected"
    corrections: Annotated[
        int, _normals_option(min=1, help="Gradients per step when projecting; more fit the picture more closely.")
    ] = 1
    draws: Annotated[int, _normals_option(min=1, help="Samples; the better half is averaged.")] = 1

    def values(self) -> dict[str, Any]:
        """The fields of `PhotoNormalsParams`."""
        return {"guidance": self.normals_guidance, "corrections": self.corrections, "draws": self.draws}


@run_command(generate_app)
def photo(
    file: Annotated[
        Path, typer.Argument(help="A square photo, framed like the dataset's; `spinmeround align` crops one.")
    ],
    output: OutputOptions,
    normals: NormalsOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
    azimuth: Annotated[
        float | None, typer.Option(help="Azimuth of the photo's camera in degrees; default: its label's, or 0.")
    ] = None,
    elevation: Annotated[
        float | None, typer.Option(help="Elevation of the photo's camera in degrees; default: its label's, or 0.")
    ] = None,
    identity: IdentityOption = None,
    matting: MattingOption = None,
) -> None:
    """Generate views of the head in a photo, taken from the front or, with --azimuth, from any side."""
    given = {
        "kind": "photo",
        "file": _existing(file),
        "azimuth_deg": azimuth,
        "elevation_deg": elevation,
        "identity": identity and _identity(identity),
        "matting": matting and _existing(matting),
        "normals": normals.values(),
    }
    _generate(given, options, model, sampling, output)


@run_command(generate_app)
def views(
    file: Annotated[Path, typer.Argument(help="A transforms.json with 1 or 3 frames and their pictures.")],
    output: OutputOptions,
    normals: NormalsOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
    identity: IdentityOption = None,
    matting: MattingOption = None,
    undistort: Annotated[
        bool,
        typer.Option("--undistort", help="Remove the distortion that the transforms.json states from the pictures."),
    ] = False,
) -> None:
    """Generate views of the head in 1 or 3 posed pictures.

    Frames of the transforms.json may name their normals as `normals_file_path`; others are inferred.
    """
    given = {
        "kind": "views",
        "file": _existing(file),
        "identity": identity and _identity(identity),
        "undistort": undistort,
        "matting": matting and _existing(matting),
        "normals": normals.values(),
    }
    _generate(given, options, model, sampling, output)


@run_command(generate_app)
def head(
    id: Annotated[str, typer.Argument(help="Id of a head of the dataset.")],
    output: OutputOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="A conditioning view, once or three times: front, back, left, right, AZIMUTH or AZIMUTH,ELEVATION in "
            "degrees (the nearest view), or an index as '#62'; default: front."
        ),
    ] = None,
) -> None:
    """Generate views of a head of the dataset from 1 or 3 of its views and its identity."""
    _generate({"kind": "head", "head": id, "views": view or ["front"]}, options, model, sampling, output)


@run_command(generate_app)
def identity(
    whose: Annotated[
        str, typer.Argument(help="Id of a head of the dataset, a .npy file with 512 numbers, or a photo.")
    ],
    output: OutputOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
) -> None:
    """Generate views of a head from an identity alone."""
    _generate({"kind": "identity", "identity": _identity(whose)}, options, model, sampling, output)


@run_command(generate_app)
def interpolate(
    start: Annotated[
        str, typer.Argument(help="First identity: id of a head, a .npy file with 512 numbers, or a photo.")
    ],
    end: Annotated[str, typer.Argument(help="Last identity, named in the same way.")],
    output: StripOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
    heads: Annotated[int, typer.Option(min=2, help="Number of heads, both ends included.")] = 7,
    linear: Annotated[
        bool, typer.Option("--linear", help="Interpolate along the chord; default: along the sphere.")
    ] = False,
) -> None:
    """Generate the heads between two identities."""
    method = "linear" if linear else "spherical"
    ends = {"start": _identity(start), "end": _identity(end)}
    _generate({"kind": "interpolation", **ends, "heads": heads, "method": method}, options, model, sampling, output)


@run_command(generate_app)
def unconditional(
    output: OutputOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
    heads: Annotated[int, typer.Option(min=1, help="Number of heads, from consecutive seeds.")] = 1,
) -> None:
    """Generate heads from noise alone."""
    _generate({"kind": "nothing", "heads": heads}, options, model, sampling, output)


def _generate(
    given: dict[str, Any],
    options: RunOptions,
    model: ModelOptions,
    sampling: SamplingOptions,
    output: OutputOptions,
) -> None:
    """Validate everything that needs no model, then run the generation flow."""
    from spinmeround.flows.run.folder import refuse_file
    from spinmeround.storage.files import make_folder
    from spinmeround.tasks.generation.inputs import check_inputs
    from spinmeround.tasks.generation.params import GenerationParams, parse_cameras

    profile, _ = options.load()
    cameras = parse_cameras(output.cameras, profile.views)
    with as_config_error():
        params = GenerationParams.model_validate({"given": given, **sampling.values(), **cameras})
        check_inputs(params)
    refuse_file(output.to, "--to")
    with environment_errors(output.to):
        make_folder(output.to.absolute())
    entry = "spinmeround.flows.generation:generation_flow"
    named = checked_model(options, model.model)
    run_flow(options, entry, params=params, folder=str(output.to.absolute()), model=named)
    print_values({"generated": output.to})


def _existing(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"{path}: expected a file, found none")
    return str(path.absolute())


def checked_model(options: RunOptions, model: str | None) -> str | None:
    """The model of --model for a flow, whose paths are absolute. Raises ConfigError if nothing has this name."""
    from spinmeround.flows.run.folder import named_run
    from spinmeround.flows.run.models import find_model
    from spinmeround.storage.artifacts import ArtifactStore

    if model is None:
        return None
    profile, place = options.load()
    found = find_model(model, ArtifactStore(named_run(place, profile.name).store), profile.promote)
    return str(found) if isinstance(found, Path) else model


def _identity(name: str) -> str:
    """An identity with an absolute path, because a worker process reads it."""
    from spinmeround.tasks.generation.params import is_picture

    return _existing(Path(name)) if name.endswith(".npy") or is_picture(name) else name
