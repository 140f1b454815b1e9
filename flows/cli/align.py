"""`spinmeround align`: crops a photo in the way of PanoHead's training pictures and writes its camera."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spinmeround.flows.cli.shared.output import print_values
from spinmeround.storage.errors import ConfigError, as_config_error


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(rich_help_panel=panel)(align)


def align(
    photo: Annotated[Path, typer.Argument(help="A photo of a face.")],
    to: Annotated[Path, typer.Option(help="PNG to write; its label, with the camera, is written next to it as .json.")],
    landmarks: Annotated[
        str | None,
        typer.Option(
            help="Five points in pixels, 'x,y x,y x,y x,y x,y': left and right eye, nose tip, left and right corner of "
            "the mouth; default: detected with --pack."
        ),
    ] = None,
    pack: Annotated[Path | None, typer.Option(help="Folder of an InsightFace pack, which detects the face.")] = None,
    side: Annotated[int, typer.Option(min=32, max=4096, help="Side of the picture, in pixels.")] = 512,
    border: Annotated[Literal["white", "blurred"], typer.Option(help="Fill for pixels outside the photo.")] = "white",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Crop a photo of a face for `generate photo`, and estimate its camera where the pack has 3D landmarks."""
    from spinmeround.tasks.generation.align import (
        MIN_HEAD_SIDE,
        align_photo,
        parse_landmarks,
        read_photo,
        write_aligned,
    )

    if to.suffix.lower() != ".png":
        raise ConfigError(f"--to: expected the name of a .png file, got {to}")
    for path in (to, to.with_suffix(".json")):
        if path.exists() and not force:
            raise ConfigError(f"--to: {path} exists; choose another name, or overwrite it with --force")
    points = parse_landmarks(landmarks) if landmarks else None
    with as_config_error(f"{photo}: "):
        aligned = align_photo(read_photo(photo), landmarks=points, pack=pack, side=side, border=border)
    label = write_aligned(aligned, to)
    camera = "" if aligned.cam2world is not None else " (no camera: the pose is unknown)"
    print_values({"picture": to, "label": f"{label}{camera}"})
    if aligned.square.side < MIN_HEAD_SIDE:
        note = f"the head spans {aligned.square.side:.0f} pixels of the photo; PanoHead's own cropping skips heads "
        print_values({"note": f"{note}smaller than {MIN_HEAD_SIDE}"}, err=True)
