"""`spinmeround reconstruct`: splats and a mesh of a head, from views all round it."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmeround.flows.cli.generate import ModelOptions, SamplingOptions, checked_model
from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.run_flow import print_summary, run_flow
from spinmeround.storage.errors import ConfigError, as_config_error, environment_errors

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.tasks.reconstruction.params import ReconstructionRequest

_source_option = partial(typer.Option, rich_help_panel="Views")


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Where the views come from: a head, a photo or a folder."""

    head: Annotated[
        str | None, _source_option(help="Id of a head of the dataset: from its true views, or --generated ones.")
    ] = None
    dataset: Annotated[
        Path | None, _source_option(help="Folder of another dataset than the profile's, for instance an imported one.")
    ] = None
    generated: Annotated[
        bool, _source_option("--generated", help="From views that the model generates of the front of --head.")
    ] = False
    photo: Annotated[
        Path | None, _source_option(help="A square photo of a face, of which the model generates the views.")
    ] = None
    identity: Annotated[
        str | None, _source_option(help="Identity of --photo: id of a head, a .npy file, or another photo.")
    ] = None
    views: Annotated[
        Path | None,
        _source_option(help="Folder that `spinmeround generate` wrote: pictures, and cameras in a transforms.json."),
    ] = None
    cameras: Annotated[
        str | None,
        _source_option(
            help="Views to generate: orbit:N, grid or a transforms.json; default: 14 azimuths at 4 elevations."
        ),
    ] = None


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    run_command(app, panel=panel)(reconstruct)


def reconstruct(
    source: SourceOptions,
    sampling: SamplingOptions,
    options: RunOptions,
    model: ModelOptions,
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("reconstructed"),
    steps: Annotated[int | None, typer.Option(min=0, help="Steps of the fit; default: the profile's.")] = None,
) -> None:
    """Reconstruct a head as 3D Gaussian splats (.ply), with a viewer, scores of held-out views, and a mesh.

    The views are the true ones of a head (--head), generated (--head with --generated, or --photo), or those in a
    folder (--views).
    """
    from spinmeround.flows.run.folder import refuse_file
    from spinmeround.storage.files import make_folder

    chosen = options
    if steps is not None:
        chosen = replace(options, overrides=[*(options.overrides or []), f"reconstruct.splats.steps={steps}"])
    request = request_of(source, sampling, chosen.load()[0])
    refuse_file(to, "--to")
    with environment_errors(to):
        make_folder(to.absolute())
    summary = run_flow(
        chosen,
        "spinmeround.flows.reconstruction:reconstruction_flow",
        request=request,
        folder=str(to.absolute()),
        dataset=source.dataset and str(source.dataset.absolute()),
        model=checked_model(chosen, model.model),
    )
    print_summary(summary, chosen, "reconstruction")


def request_of(source: SourceOptions, sampling: SamplingOptions, profile: "Profile") -> "ReconstructionRequest":
    """What the flow is asked for. Raises ConfigError for options that contradict each other, and missing files."""
    from spinmeround.tasks.generation.inputs import check_inputs
    from spinmeround.tasks.generation.params import GenerationParams, parse_cameras
    from spinmeround.tasks.reconstruction.params import (
        GENERATED_VIEWS,
        FolderViews,
        GeneratedViews,
        ReconstructionRequest,
        TrueViews,
    )

    named = {"--head": source.head, "--photo": source.photo, "--views": source.views}
    given = [option for option, value in named.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(f"expected one of --head, --photo and --views, got {' and '.join(given) or 'none'}")
    if source.generated and source.head is None:
        raise ConfigError(f"--generated: expected --head, whose views the model generates, got {given[0]}")
    if source.views is not None:
        if not (source.views / "transforms.json").is_file():
            raise ConfigError(f"--views {source.views}: expected a folder with a transforms.json, found none")
        return ReconstructionRequest(views=FolderViews(folder=str(source.views.absolute())))
    if source.head is not None and not source.generated:
        return ReconstructionRequest(views=TrueViews(head=source.head))
    own = {"radius": profile.views.radius, "focal": profile.views.focal}
    cameras: dict[str, object] = {"views": GENERATED_VIEWS.model_copy(update=own)}
    if source.cameras is not None:
        cameras = parse_cameras(source.cameras, profile.views)
    with as_config_error():
        params = GenerationParams.model_validate({"given": _given(source), **sampling.values(), **cameras})
        check_inputs(params)
    return ReconstructionRequest(views=GeneratedViews(params=params))


def _given(source: SourceOptions) -> dict[str, Any]:
    if source.photo is None:
        return {"kind": "head", "head": source.head}
    if not source.photo.is_file():
        raise ConfigError(f"--photo {source.photo}: expected a file, found none")
    return {"kind": "photo", "file": str(source.photo.absolute()), "identity": source.identity}
