"""`spinmeround sample`: views from a trained model, of a head of the dataset, a photo, an identity, or nothing."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spinmeround.flows.cli.options import RunOptions, run_command
from spinmeround.storage.errors import ConfigError, as_config_error, environment_errors
from spinmeround.storage.files import make_folder

KINDS = "--from-dataset HEAD, --photo FILE, --views FILE, --identity WHOSE, --interpolate A B and --unconditional"

BELONGS_TO = {
    "view": {"views": "--from-dataset"},
    "azimuth": {"photo": "--photo"},
    "elevation": {"photo": "--photo"},
    "steps": {"interpolation": "--interpolate; the solver's steps are --sampling-steps"},
    "linear": {"interpolation": "--interpolate"},
    "heads": {"nothing": "--unconditional"},
    "corrections": {"photo": "--photo", "posed": "--views"},
    "draws": {"photo": "--photo", "posed": "--views"},
}
"""The kinds of sampling that an option serves, and what asks for them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    run_command(app)(sample)


def sample(
    options: RunOptions,
    from_dataset: Annotated[str | None, typer.Option(help="Id of the head whose views are given.")] = None,
    view: Annotated[list[int] | None, typer.Option(help="Index of a given view; 1 or 3 of them, else 0.")] = None,
    photo: Annotated[
        Path | None, typer.Option(help="A square photo, framed as the dataset's; `spinmeround align` makes one.")
    ] = None,
    azimuth: Annotated[
        float | None, typer.Option(help="Where the photo is taken from, in degrees; else its label's, else 0.")
    ] = None,
    elevation: Annotated[float | None, typer.Option(help="Likewise, upwards.")] = None,
    views: Annotated[
        Path | None, typer.Option(help="1 or 3 posed pictures: a transforms.json, normals_file_path if known.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="Id of a head, or a .npy of 512 numbers; alone, or of the photo or views.")
    ] = None,
    interpolate: Annotated[
        tuple[str, str] | None, typer.Option(help="Two identities, as --identity: the heads between them.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Heads of --interpolate, both ends included; else 7.")
    ] = None,
    linear: Annotated[bool, typer.Option("--linear", help="--interpolate along the chord, not the sphere.")] = False,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Nothing is given.")] = False,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of --unconditional, from one seed after the other; else 1.")
    ] = None,
    cameras: Annotated[
        str | None, typer.Option(help="orbit:N, grid (the profile's) or a transforms.json; else orbit:7, or the front.")
    ] = None,
    anchors: Annotated[
        bool | None, typer.Option("--anchors/--no-anchors", help="Views agree through 7 anchors; else where many.")
    ] = None,
    solver: Annotated[str, typer.Option(help="euler, heun or dpmpp.")] = "euler",
    sampling_steps: Annotated[int, typer.Option(min=1, help="Steps of the solver.")] = 50,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Guidance scale; else 3, or 3.5 without a given view.")
    ] = None,
    corrections: Annotated[
        int | None, typer.Option(min=1, help="Gradients a step where normals are inferred; else 1.")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Samples of inferred normals, the better half's mean counts; else 1.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Groups of views at once; else what fits.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    to: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("samples"),
) -> None:
    """Views from a trained model: PNGs, normals, cameras, a contact sheet, an animation and a page to turn the head."""
    from spinmeround.tasks.generation.params import SampleViewsParams, camera_of_photo, parse_cameras

    if solver not in ("euler", "heun", "dpmpp"):
        raise ConfigError(f"--solver: expected euler, heun or dpmpp, got {solver!r}")
    condition = _condition(from_dataset, photo, views, identity, interpolate, unconditional)
    _refuse_idle(
        condition,
        view=view,
        azimuth=azimuth,
        elevation=elevation,
        steps=steps,
        linear=linear or None,
        heads=heads,
        corrections=corrections,
        draws=draws,
    )
    given = view or [0]
    if len(given) not in (1, 3):
        raise ConfigError(f"--view: expected 1 or 3 given views, got {len(given)}")
    values: dict[str, Any] = {
        "condition": condition,
        "head": from_dataset,
        "given": given,
        "posed": views and _there(views, "--views"),
        "identity": identity and _identity(identity),
        "between": interpolate and [_identity(name) for name in interpolate],
        "steps_between": steps or 7,
        "way": "linear" if linear else "spherical",
        "heads": heads or 1,
        "anchored": anchors,
        "solver": {"solver": solver},
        "sampling_steps": sampling_steps,
        "guidance_scale": guidance,
        "photo_normals": {"corrections": corrections or 1, "draws": draws or 1},
        "batch": batch,
        "seed": seed,
    }
    if photo is not None:
        found = camera_of_photo(Path(_there(photo, "--photo")), azimuth, elevation)
        values |= {"photo": str(photo.absolute()), "photo_azimuth_deg": found[0], "photo_elevation_deg": found[1]}
    profile, _ = options.load()
    values |= parse_cameras(cameras or ("orbit:1" if condition == "interpolation" else "orbit:7"), profile.views)
    from spinmeround.flows.cli.app import run_flow
    from spinmeround.flows.run.folder import refuse_file

    with as_config_error():
        SampleViewsParams.model_validate(values).check_files()
    refuse_file(to, "--to")
    with environment_errors(to):
        make_folder(to.absolute())
    run_flow(options, "spinmeround.flows.generation:sampling_flow", params=values, folder=str(to.absolute()))
    typer.echo(f"{'samples':<10} {to}")


def _condition(
    from_dataset: str | None,
    photo: Path | None,
    views: Path | None,
    identity: str | None,
    interpolate: tuple[str, str] | None,
    unconditional: bool,
) -> str:
    """Which kind of sampling is asked for; raises ConfigError unless it is one."""
    kinds = {
        "views": from_dataset is not None,
        "photo": photo is not None,
        "posed": views is not None,
        "identity": identity is not None and photo is None and views is None,
        "interpolation": interpolate is not None,
        "nothing": unconditional,
    }
    asked = [name for name, wanted in kinds.items() if wanted]
    if len(asked) != 1:
        raise ConfigError(f"sample: expected one of {KINDS}; only a photo or views take an identity, too")
    return asked[0]


def _refuse_idle(condition: str, **options: Any) -> None:
    """Raises ConfigError for an option that is told and that this kind of sampling would leave unread."""
    for option, told in options.items():
        if told is not None and condition not in BELONGS_TO[option]:
            raise ConfigError(f"--{option}: belongs to {' or '.join(BELONGS_TO[option].values())}")


def _there(path: Path, option: str) -> str:
    if not path.is_file():
        raise ConfigError(f"{option}: expected a file, found none at {path}")
    return str(path.absolute())


def _identity(name: str) -> str:
    """A file by its whole path, since the work is done elsewhere."""
    return _there(Path(name), "--identity") if name.endswith(".npy") else name
