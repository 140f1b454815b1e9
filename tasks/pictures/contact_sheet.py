"""Contact sheets: a grid of pictures with captions, as one picture on white.

Pictures are uint8 (height, width, 3), all of the same size. Captions use Pillow's built-in font, so a sheet is the same
on every machine.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.numbers import check_arrays
from spinmeround.storage.records import FrozenParams

INK, FAINT_INK = (26, 28, 31), (104, 109, 115)
"""RGB colours of titles and first lines of captions, and of further lines."""

SUFFIXES = (".png", ".webp")


class SheetStyle(FrozenParams):
    """Layout of a contact sheet; lengths are in pixels."""

    columns: int = Field(default=8, ge=1, description="Pictures per row")
    cell: int = Field(default=128, ge=16, description="Width of a picture on the sheet; others are resized")
    gap: int = Field(default=12, ge=0, description="Space between cells and around the sheet")
    font: int = Field(default=11, ge=6, description="Font size of the captions")


def side_by_side(pictures: UInt8[np.ndarray, "picture height width 3"]) -> UInt8[np.ndarray, "height row 3"]:
    """Pictures of one head as one wide picture, for one cell of a sheet."""
    return rearrange(pictures, "picture height width rgb -> height (picture width) rgb")


def to_uint8(pictures: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Convert generated pictures from [0, 1] to 0..255.

    Raises SpinMeRoundError for NaN or infinity, which bytes would hide.
    """
    check_arrays("generated views, check the weights of the pipeline", {"pictures": pictures})
    return np.asarray(np.rint(np.clip(pictures, 0.0, 1.0) * 255), np.uint8)


def contact_sheet(
    pictures: UInt8[np.ndarray, "picture height width 3"] | Sequence[UInt8[np.ndarray, "height width 3"]],
    captions: Sequence[str],
    *,
    title: str = "",
    style: SheetStyle = SheetStyle(),  # noqa: B008 (frozen)
) -> Image.Image:
    """The pictures row by row, each with its caption of one or more lines below it.

    Raises ValueError without pictures, or if the numbers of pictures and captions differ.
    """
    if len(pictures) == 0 or len(pictures) != len(captions):
        raise ValueError(
            f"captions: expected one per picture and at least one, got {len(captions)} for {len(pictures)} pictures"
        )
    font = ImageFont.load_default(style.font)
    height, width = pictures[0].shape[:2]
    size = (style.cell, round(style.cell * height / width))
    line = round(style.font * 1.35)
    caption_height = max(caption.count("\n") + 1 for caption in captions) * line
    top = style.gap + (style.font * 2 + style.gap if title else 0)
    columns = min(style.columns, len(pictures))
    rows = -(-len(pictures) // columns)
    step_x, step_y = size[0] + style.gap, size[1] + caption_height + style.gap
    sheet = Image.new("RGB", (style.gap + columns * step_x, top + rows * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((style.gap, style.gap), title, INK, ImageFont.load_default(style.font * 1.5))
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = style.gap + index % columns * step_x, top + index // columns * step_y
        sheet.paste(_resized(picture, size), (x, y))
        for number, text in enumerate(caption.split("\n")):
            position = (x, y + size[1] + line // 5 + number * line)
            draw.text(position, _truncated(text, font, size[0]), FAINT_INK if number else INK, font)
    return sheet


def check_sheet_name(path: Path) -> None:
    """Raises ConfigError if the suffix is not one of SUFFIXES."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path.name}: expected a file name that ends in {' or '.join(SUFFIXES)}")


def save_contact_sheet(path: Path, sheet: Image.Image) -> None:
    """Write the sheet atomically, as PNG or lossless WebP by its suffix. Raises ConfigError for another suffix."""
    check_sheet_name(path)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG" if path.suffix.lower() == ".png" else "WEBP", lossless=True, optimize=True)
    with environment_errors(path):
        write_atomic(path, buffer.getvalue())


def _resized(picture: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(picture)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _truncated(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, truncated with an ellipsis if it is wider than `width` pixels."""
    while font.getlength(text) > width and len(text) > 1:
        text = text[:-2].rstrip() + "…"
    return text
