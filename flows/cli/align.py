"""`spinmeround align`: crops a photo in the way of PanoHead's training pictures and writes its camera."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spinmeround.flows.cli.shared.output import print_values
from spinmeround.storage.errors import ConfigError, as_config_error

if TYPE_CHECKING:
    import numpy as np


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
    matting: Annotated[
        Path | None, typer.Option(help="Network of rembg (an .onnx file), which removes the background.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Crop a photo of a face for `generate photo`, and estimate its camera where the pack has 3D landmarks."""
    import numpy as np
    from PIL import Image

    from spinmeround.tasks.generation.align import MIN_HEAD_SIDE, align_photo, write_aligned
    from spinmeround.tasks.generation.inputs import background_note
    from spinmeround.tasks.pictures.matting import cut_out
    from spinmeround.tasks.pictures.photos import has_background, read_photo

    points = _check_options(to, landmarks, pack, matting, force)
    found = read_photo(photo)
    with as_config_error(f"{photo}: "):
        aligned = align_photo(np.asarray(found.picture), landmarks=points, pack=pack, side=side, border=border)
    picture, notes = Image.fromarray(aligned.picture), list(found.notes)
    if matting is not None:
        aligned = replace(aligned, picture=np.asarray(cut_out(picture, matting)))
    elif not found.cut_out and has_background(picture):
        notes.append(background_note(photo))
    if aligned.square.side < MIN_HEAD_SIDE:
        spans = f"the head spans {aligned.square.side:.0f} pixels of the photo"
        notes.append(f"{spans}; PanoHead's own cropping skips heads smaller than {MIN_HEAD_SIDE}")
    notes += [f"PanoHead's own cropping would leave out this photo: {reason}" for reason in aligned.rejections]
    label = write_aligned(aligned, to)
    camera = "" if aligned.cam2world is not None else " (no camera: the pose is unknown)"
    print_values({"picture": to, "label": f"{label}{camera}"})
    print_values({"note": notes} if notes else {}, err=True)


def _check_options(
    to: Path, landmarks: str | None, pack: Path | None, matting: Path | None, force: bool
) -> "np.ndarray | None":
    """Check everything that needs no photo; returns the landmarks, if given. Raises ConfigError."""
    from spinmeround.models.identity.cropping import square_of_five
    from spinmeround.tasks.generation.align import parse_landmarks
    from spinmeround.tasks.pictures.matting import check_matting

    if to.suffix.lower() != ".png":
        raise ConfigError(f"--to: expected the name of a .png file, got {to}")
    for path in (to, to.with_suffix(".json")):
        if path.exists() and not force:
            raise ConfigError(f"--to: {path} exists; choose another name, or overwrite it with --force")
    points = parse_landmarks(landmarks) if landmarks else None
    if points is None and pack is None:
        raise ConfigError("align: expected --pack FOLDER, an InsightFace pack, or --landmarks, got neither")
    if points is not None:
        with as_config_error("--"):
            square_of_five(points)
    if matting is not None:
        check_matting(matting)
    return points
