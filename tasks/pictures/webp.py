"""Pictures for web pages: WebP data URIs and sprite sheets, with the background removed.

The dataset stores RGB composited on white. `cut_out` reverses this, so heads appear on the page's own background, light
or dark. Data URIs and sprite sheets are lossy WebP: use the dataset for measurements.
"""

import base64
import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image

WEBP_LIMIT = 16383
"""Maximum side of a WebP picture, in pixels, defined by the format."""


@dataclass(frozen=True, kw_only=True)
class SpriteSheet:
    """All views of a head in one picture, row by row; `cell` is the side of a view in pixels."""

    uri: str
    columns: int
    cell: int


def cut_out(
    rgb: UInt8[np.ndarray, "*picture height width 3"], mask: UInt8[np.ndarray, "*picture height width"]
) -> UInt8[np.ndarray, "*picture height width 4"]:
    """Straight RGBA from RGB composited on white: the inverse of c = a f + (1 - a) 255, white where a is 0."""
    return np.concatenate([_foregrounds()[mask[..., None], rgb], mask[..., None]], axis=-1)


@cache
def _foregrounds() -> UInt8[np.ndarray, "256 256"]:
    """Straight colours by [alpha, colour on white]."""
    alpha, on_white = np.arange(256)[:, None], np.arange(256)[None, :]
    foreground = 255 - (255 - on_white) * 255 / np.maximum(alpha, 1)
    return np.where(alpha > 0, foreground, 255).clip(0, 255).round().astype(np.uint8)


def resize(
    pictures: UInt8[np.ndarray, "picture height width *channel"], side: int
) -> UInt8[np.ndarray, "picture new_height new_width *channel"]:
    """Pictures downsampled to `side` pixels by area averaging; smaller pictures are returned unchanged."""
    if pictures.shape[0] == 0 or pictures.shape[2] <= side:
        return pictures
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in pictures])


def webp(picture: UInt8[np.ndarray, "height width channel"], *, quality: int) -> bytes:
    """An RGB or RGBA picture as a WebP file: lossy colours, lossless alpha."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=quality, alpha_quality=100, method=4)
    return buffer.getvalue()


def data_uri(picture: UInt8[np.ndarray, "height width channel"], *, quality: int) -> str:
    """A WebP data URI of an RGB or RGBA picture."""
    return webp_uri(webp(picture, quality=quality))


def webp_uri(file: bytes) -> str:
    """The data URI of a WebP file."""
    return "data:image/webp;base64," + base64.b64encode(file).decode("ascii")


def row_uri(pictures: UInt8[np.ndarray, "picture height width channel"], *, quality: int) -> str:
    """Pictures side by side in one data URI, which compresses and loads better than several."""
    return data_uri(rearrange(pictures, "p h w c -> h (p w) c"), quality=quality)


def sprite_sheet(pictures: UInt8[np.ndarray, "view side side channel"], *, quality: int) -> SpriteSheet:
    """The views row by row in a square grid. Raises ValueError if the sheet exceeds WEBP_LIMIT."""
    views, side = pictures.shape[:2]
    columns = int(np.ceil(np.sqrt(views)))
    if columns * side > WEBP_LIMIT:
        raise ValueError(
            f"sprite sheet: expected a side of at most {WEBP_LIMIT} pixels, got {columns * side} for {views} views "
            f"of {side} px; lower report.viewer_resolution"
        )
    blank = np.zeros((columns * columns - views, *pictures.shape[1:]), np.uint8)
    sheet = rearrange(np.concatenate([pictures, blank]), "(r c) h w k -> (r h) (c w) k", c=columns)
    return SpriteSheet(uri=data_uri(sheet, quality=quality), columns=columns, cell=side)


def nearest_view(
    azimuth_deg: Float[np.ndarray, " view"], elevation_deg: Float[np.ndarray, " view"], at: tuple[float, float]
) -> int:
    """Index of the view with the smallest angle to the direction `at`, (azimuth, elevation) in degrees."""
    of_views = directions(azimuth_deg, elevation_deg)
    return int(np.argmax(of_views @ directions(np.array([at[0]]), np.array([at[1]]))[0]))


def directions(
    azimuth_deg: Float[np.ndarray, " view"], elevation_deg: Float[np.ndarray, " view"]
) -> Float[np.ndarray, "view 3"]:
    """Unit vectors from the origin towards azimuths and elevations, in the world frame."""
    az, el = np.radians(azimuth_deg.astype(np.float64)), np.radians(elevation_deg.astype(np.float64))
    return np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], axis=-1)
