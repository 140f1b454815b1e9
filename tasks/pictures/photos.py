"""Reads every picture that comes from outside: upright, in 8-bit sRGB, composited on one colour.

A picture is read in its EXIF orientation (of several frames the first). Grey pictures of 9 to 16 bits are scaled by
their bits, floats are 0 to 1; embedded colour profiles and a PNG's gamma are converted to sRGB. The size is checked
before pixels are decoded. Only formats whose decoders run in this process are read (no PostScript).
"""

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from spinmeround.storage.errors import ConfigError, one_line

MAX_PIXELS = 120_000_000
"""Room for the photos of 108 megapixels that phones take; decoded, they need half a gigabyte."""

_MOST_PIXELS_A_BYTE = 2000
"""More are no photo: no format compresses one so far, but a damaged header may claim any size."""

MIN_SIDE = 16
"""Least width and height in pixels: the features of a face need a few each."""

WHITE, NO_NORMAL = (255, 255, 255), (128, 128, 128)
"""Backgrounds of pictures and of normal maps."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
_NEARLY_EQUAL = 3
"""Largest difference of the pixels of a picture of one colour, which JPEG compresses to slightly different values."""
_MIN_CONTENT = 0.002
"""Smallest share of the pixels that differ from the commonest colour: a head fills a third of the trained pictures."""
_TWELVE_BITS = 4095
_OPAQUE = 64
"""Least alpha of what counts as shown, a quarter: a head is opaque but for the tips of its hair."""
_SRGB_GAMMA = 1 / 2.2
"""The exponent from light to samples that PNG states for sRGB (its chunk gAMA)."""
_NEAR_WHITE = 230
_BORDER_SHARE = 0.25
"""Share of the border above which it decides: hair may touch it."""
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
"""Tags of TIFF."""


class Photo(NamedTuple):
    """A picture in RGB; whether its border was transparent; and remarks about how it was read, for the user."""

    picture: Image.Image
    cut_out: bool
    notes: tuple[str, ...] = ()


def read_photo(
    path: Path,
    *,
    square: bool = False,
    background: tuple[int, int, int] = WHITE,
    colours: bool = True,
    data: bytes | None = None,
) -> Photo:
    """Read a picture; `colours` is False for normal maps, whose numbers no colour profile may change.

    `data` is the content of a picture that is in no file of its own; `path` then only names it in messages.

    Raises ConfigError for a file that is no picture, damaged, too large, nearly all transparent, or of one colour;
    with `square` also for one that is not square.
    """
    if data is None and not os.path.isfile(path):  # raises nothing for a name that is too long
        raise ConfigError(f"{path}: expected a picture, found none that can be read (no such file)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about large pictures and defective metadata
        try:
            flat = _read(path, data, square, background, colours)
        except ConfigError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(path, "more than Pillow decodes") from error
        except UnidentifiedImageError as error:
            raise ConfigError(
                f"{path}: expected a picture, found none that can be read: no {', '.join(FORMATS[:-1])} or "
                f"{FORMATS[-1]} of 8 bits a channel, or grey of 16 bits; save it as PNG or JPEG"
            ) from error
        except Exception as error:  # decoders raise what they meet: OSError, SyntaxError, struct.error, ...
            raise ConfigError(f"{path}: expected a picture, found none that can be read ({one_line(error)})") from error
    return flat


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an upright picture, from its header; None if it can't be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_formats()) as file:
                turned = file.format != "TIFF" and file.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                return (file.height, file.width) if turned else file.size
        except Exception:  # the reader of the pixels says what is wrong
            return None


def require_content(picture: Image.Image, name: str) -> None:
    """Raises ConfigError for a picture of one colour, but for a few pixels."""
    commonest, differs = [], np.zeros((picture.height, picture.width), bool)
    for band in picture.split():
        level = int(np.argmax(band.histogram()))
        values = np.asarray(band)
        differs |= (values < max(level - _NEARLY_EQUAL, 0)) | (values > min(level + _NEARLY_EQUAL, 255))
        commonest.append(str(level))
    if (count := int(differs.sum())) < _MIN_CONTENT * differs.size:
        where = f"in all but {count} of {differs.size} pixels" if count else "everywhere"
        colour = ", ".join(commonest)
        raise ConfigError(f"{name}: expected a picture that shows a head, found one colour (RGB {colour}) {where}")


def has_background(picture: Image.Image) -> bool:
    """Whether over a quarter of the border is not near white."""
    return float((_border(np.asarray(picture)).min(axis=1) < _NEAR_WHITE).mean()) > _BORDER_SHARE


def _border(pixels: UInt8[np.ndarray, "height width ..."]) -> UInt8[np.ndarray, "border ..."]:
    """The top edge and the upper two thirds of the sides: shoulders reach the lower edge."""
    height = max(1, len(pixels) * 2 // 3)
    return np.concatenate([pixels[0], pixels[:height, 0], pixels[:height, -1]])


def _read(path: Path, data: bytes | None, square: bool, background: tuple[int, int, int], colours: bool) -> Photo:
    with Image.open(path if data is None else io.BytesIO(data), formats=_formats()) as file:
        if file.width * file.height > MAX_PIXELS:
            raise _too_large(path, f"{file.width} x {file.height}")
        stored = path.stat().st_size if data is None else len(data)
        if file.width * file.height > stored * _MOST_PIXELS_A_BYTE:
            raise ConfigError(
                f"{path}: expected a photo, found {stored} bytes for {file.width} x {file.height} pixels, which are "
                "damaged or of one colour; save it again"
            )
        if min(file.size) < MIN_SIDE:
            raise ConfigError(
                f"{path}: expected a picture of at least {MIN_SIDE} x {MIN_SIDE} pixels, got {file.width} x "
                f"{file.height}; it shows no face"
            )
        if square and file.width != file.height:
            raise ConfigError(
                f"{path}: expected a square picture, framed like the dataset's, got {file.width} x {file.height}; "
                "'spinmeround align' crops a photo"
            )
        profile = file.info.get("icc_profile") if colours else None
        notes = []
        tags = getattr(file, "tag_v2", {})
        gamma = _gamma(file.info) if colours and profile is None else None
        deep = _has_sixteen_bits(file, tags)
        upright, problem = _upright(file)
        if problem:
            notes.append(f"{path}: its EXIF data can't be read, so it is taken as upright")
        image = _eight_bits(upright, tags, path)
        if deep and (high := _largest_of_sixteen_bits(upright)) <= _TWELVE_BITS:
            notes.append(
                f"{path}: its values are at most {high} of 65535, so it is read as very dark; if they have 12 bits or "
                "fewer, scale them to 16"
            )
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if alpha is not None and alpha.getextrema() == (0, 0):
        raise ConfigError(f"{path}: expected a picture that shows a head, found one that is transparent everywhere")
    flat, known = _srgb(image, profile)
    if gamma is not None:
        flat = flat.point([round(255 * (level / 255) ** (_SRGB_GAMMA / gamma)) for level in range(256)] * 3)
    if not known:
        notes.append(f"{path}: its colour profile can't be used, so its colours are taken as sRGB")
    if alpha is not None:
        flat = Image.composite(flat, Image.new("RGB", flat.size, background), alpha)
    require_content(flat, str(path))
    if alpha is None:
        return Photo(flat, False, tuple(notes))
    shown = np.asarray(alpha) >= _OPAQUE
    if shown.mean() < _MIN_CONTENT:
        raise ConfigError(
            f"{path}: expected a picture that shows a head, found one that is nearly transparent: {int(shown.sum())} "
            f"of {shown.size} pixels have an alpha of {_OPAQUE} or more; save it without its alpha"
        )
    return Photo(flat, float((_border(np.asarray(alpha)) < _OPAQUE).mean()) > _BORDER_SHARE, tuple(notes))


def _gamma(info: Mapping[Any, Any]) -> float | None:
    """The exponent from light to samples that a PNG states, unless it states sRGB, too."""
    gamma = info.get("gamma")
    return gamma if isinstance(gamma, float) and gamma > 0 and "srgb" not in info else None


def _has_sixteen_bits(file: Image.Image, tags: Mapping[int, Any]) -> bool:
    """Whether an open PNG or TIFF, or another grey picture, has 16 bits a channel; Pillow reduces colours to 8."""
    if file.format == "PNG":
        return any(str(tile[3]).endswith(";16B") for tile in getattr(file, "tile", ()))
    return bool(tags.get(_BITS_PER_SAMPLE, (0,))[0] == 16) if tags else file.mode.startswith("I;16")


def _largest_of_sixteen_bits(image: Image.Image) -> int:
    """The largest value of a grey picture, or for colours, of which Pillow keeps the upper 8 bits, the largest can be.

    Alpha and padding do not count.
    """
    if image.mode.startswith("I;16"):
        return int(np.asarray(image).max())
    bands = [band for band, name in zip(image.split(), image.getbands(), strict=True) if name not in "AX"]
    return max(int(np.asarray(band).max()) for band in bands) * 256 + 255


def _formats() -> list[str]:
    Image.init()
    return [each for each in FORMATS if each in Image.OPEN]  # Pillow may be built without one


def _too_large(path: Path, found: str) -> ConfigError:
    limit = f"{MAX_PIXELS / 1e6:.0f} megapixels"
    return ConfigError(f"{path}: expected a picture of at most {limit}, found {found}; scale it down or crop it first")


def _upright(file: Image.Image) -> tuple[Image.Image, bool]:
    """The picture in its EXIF orientation, and whether that can't be told."""
    file.load()
    try:
        return ImageOps.exif_transpose(file), False
    except Exception:  # what the parser of defective EXIF data meets
        return file.copy(), True


def _eight_bits(image: Image.Image, tags: Mapping[int, Any], path: Path) -> Image.Image:
    """The picture in a mode of 8 bits a channel; `tags` are those of a TIFF."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values, top = np.asarray(image).astype(np.float64), 65535.0
    if image.mode == "F":
        top = 1.0
    elif image.mode.startswith("I;16"):
        top = 2.0 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top) or (image.mode == "I" and tags):
        raise ConfigError(
            f"{path}: expected 8 or 16 bits a channel, or floats of 0 to 1, found {image.mode} of {low:g} to {high:g}; "
            "save it as an 8-bit PNG"
        )
    share = values / top
    if tags.get(_PHOTOMETRIC) == 0 and image.mode != "I":
        share = 1 - share  # 0 is white
    grey = Image.fromarray(np.rint(share * 255).astype(np.uint8))
    if isinstance(transparent := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """The picture in sRGB without its alpha, and whether its profile could be used, if it has one."""
    opaque = image.convert("RGB") if image.mode in ("P", "PA", "RGBA", "RGBa", "RGBX") else image
    opaque = opaque.convert("L") if opaque.mode in ("1", "LA", "La") else opaque
    if profile is None:
        return opaque.convert("RGB"), True
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        if opaque.mode == "L" and embedded.profile.xcolor_space.strip() == "RGB":
            opaque = opaque.convert("RGB")
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        converted = ImageCms.profileToProfile(
            opaque, embedded, ImageCms.createProfile("sRGB"), renderingIntent=intent, outputMode="RGB", flags=flags
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return opaque.convert("RGB"), False
    assert converted is not None  # only in-place conversions return None
    return converted, True
