"""Pictures for the report's page: WebP data URIs, with the head cut out by its mask where there is one.

The dataset keeps RGB composited on white. For the page that is undone (`cut_out`), so that heads stand on
the page's own colour, light or dark. Sprite sheets are lossy WebP, for looking at and not for measuring.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image

WEBP_LIMIT = 16383
"""Largest side of a WebP picture, in pixels (the format's own limit)."""


@dataclass(frozen=True, kw_only=True)
class SpriteSheet:
    """All views of a head in one picture, row by row."""

    uri: str
    columns: int
    cell: int


def cut_out(
    rgb: UInt8[np.ndarray, "*picture height width 3"], mask: UInt8[np.ndarray, "*picture height width"]
) -> UInt8[np.ndarray, "*picture height width 4"]:
    """RGB composited on white, and its alpha, as straight RGBA: the inverse of c = a f + (1 - a) 255."""
    alpha = mask[..., None].astype(np.float32) / 255
    foreground = 255 - (255 - rgb.astype(np.float32)) / np.maximum(alpha, 1 / 255)
    straight = np.where(alpha > 0, foreground, 255).clip(0, 255).round().astype(np.uint8)
    return np.concatenate([straight, mask[..., None]], axis=-1)


def resize(
    pictures: UInt8[np.ndarray, "picture height width *channel"], side: int
) -> UInt8[np.ndarray, "picture new_height new_width *channel"]:
    """The pictures at no more than `side` pixels a side (area-weighted); smaller ones are left as they are."""
    if pictures.shape[0] == 0 or pictures.shape[2] <= side:
        return pictures
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in pictures])


def webp(picture: UInt8[np.ndarray, "height width channel"], *, quality: int) -> bytes:
    """An RGB or RGBA picture as a lossy WebP file; alpha is kept exactly."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=quality, alpha_quality=100, method=4)
    return buffer.getvalue()


def data_uri(picture: UInt8[np.ndarray, "height width channel"], *, quality: int) -> str:
    """A WebP data URI of an RGB or RGBA picture."""
    return embedded(webp(picture, quality=quality))


def embedded(file: bytes) -> str:
    """The data URI of a WebP file."""
    return "data:image/webp;base64," + base64.b64encode(file).decode("ascii")


def row_uri(pictures: UInt8[np.ndarray, "picture height width channel"], *, quality: int) -> str:
    """Some pictures side by side in one data URI: fewer, larger files compress and load better."""
    return data_uri(rearrange(pictures, "p h w c -> h (p w) c"), quality=quality)


def sprite_sheet(pictures: UInt8[np.ndarray, "view side side channel"], *, quality: int) -> SpriteSheet:
    """The views row by row in a nearly square sheet.

    Raises ValueError where the sheet would be larger than WebP can hold.
    """
    views, side = pictures.shape[:2]
    columns = int(np.ceil(np.sqrt(views)))
    if columns * side > WEBP_LIMIT:
        raise ValueError(
            f"sprite sheet: expected at most {WEBP_LIMIT} pixels a side, got {columns * side} for {views} views "
            f"of {side} px; lower report.viewer_resolution"
        )
    blank = np.zeros((columns * columns - views, *pictures.shape[1:]), np.uint8)
    sheet = rearrange(np.concatenate([pictures, blank]), "(r c) h w k -> (r h) (c w) k", c=columns)
    return SpriteSheet(uri=data_uri(sheet, quality=quality), columns=columns, cell=side)


def nearest_view(
    azimuth_deg: Float[np.ndarray, " view"], elevation_deg: Float[np.ndarray, " view"], at: tuple[float, float]
) -> int:
    """Index of the view whose direction is nearest to the azimuth and elevation `at`, in degrees."""
    directions = _directions(azimuth_deg, elevation_deg)
    return int(np.argmax(directions @ _directions(np.array([at[0]]), np.array([at[1]]))[0]))


def _directions(
    azimuth_deg: Float[np.ndarray, " view"], elevation_deg: Float[np.ndarray, " view"]
) -> Float[np.ndarray, "view 3"]:
    az, el = np.radians(azimuth_deg.astype(np.float64)), np.radians(elevation_deg.astype(np.float64))
    return np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], axis=-1)
