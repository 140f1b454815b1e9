"""`spinmeround align`: a photograph cut and labelled as PanoHead's pictures are."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spinmeround.storage.errors import ConfigError, as_config_error


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(align)


def align(
    photo: Annotated[Path, typer.Argument(help="A photograph with a face.")],
    to: Annotated[Path, typer.Option(help="PNG to write; its label, with the camera, goes beside it as .json.")],
    landmarks: Annotated[
        str | None, typer.Option(help="'x,y x,y x,y x,y x,y': left and right eye, nose tip, corners of the mouth.")
    ] = None,
    pack: Annotated[Path | None, typer.Option(help="Folder of an InsightFace pack that finds the face.")] = None,
    side: Annotated[int, typer.Option(min=32, max=4096, help="Of the picture, in pixels.")] = 512,
    border: Annotated[Literal["white", "blurred"], typer.Option(help="What lies outside of the photo.")] = "white",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the files.")] = False,
) -> None:
    """Cut a photo of a face as PanoHead's pictures are, and tell the camera where the pose can be found."""
    from spinmeround.tasks.generation.align import LEAST_SIDE, align_photo, parse_landmarks, read_photo, write_aligned

    if to.suffix.lower() != ".png":
        raise ConfigError(f"--to: expected the name of a .png, got {to}")
    for path in (to, to.with_suffix(".json")):
        if path.exists() and not force:
            raise ConfigError(f"--to: {path} is there already; choose another name or give --force")
    points = parse_landmarks(landmarks) if landmarks else None
    with as_config_error(f"{photo}: "):
        aligned = align_photo(read_photo(photo), landmarks=points, pack=pack, side=side, border=border)
    label = write_aligned(aligned, to)
    typer.echo(f"{'picture':<10} {to}")
    typer.echo(f"{'label':<10} {label}" + ("" if aligned.cam2world is not None else " (no camera: no pose was found)"))
    if aligned.square.side < LEAST_SIDE:
        typer.echo(
            f"{'note':<10} the head has {aligned.square.side:.0f} pixels in the photo; PanoHead's own cropping leaves "
            f"out fewer than {LEAST_SIDE}",
            err=True,
        )
