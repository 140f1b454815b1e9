"""Reads every picture that comes from outside: upright, in 8-bit sRGB, composited on one colour.

A picture is read in its EXIF orientation (of several frames the first). Grey pictures of 9 to 16 bits are scaled by
their bits, floats are 0 to 1; embedded colour profiles are converted to sRGB. The size is checked before pixels are
decoded. Only formats whose decoders run in this process are read (no PostScript).
"""

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from spinmeround.storage.errors import ConfigError, one_line

MAX_PIXELS = 120_000_000
"""Room for the photos of 108 megapixels that phones take; decoded, they need half a gigabyte."""

WHITE, NO_NORMAL = (255, 255, 255), (128, 128, 128)
"""Backgrounds of pictures and of normal maps."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
_NEARLY_EQUAL = 3
"""Largest difference of the pixels of a picture of one colour, which JPEG compresses to slightly different values."""
_MIN_CONTENT = 0.002
"""Smallest share of the pixels that differ from the commonest colour: a head fills a third of the trained pictures."""
_TWELVE_BITS = 4095
_NEAR_WHITE = 230
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
"""Tags of TIFF."""


class Photo(NamedTuple):
    """A picture in RGB; whether part of it was transparent; and remarks about how it was read, for the user."""

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

    Raises ConfigError for a file that is no picture, damaged, too large, all transparent, or of one colour; with
    `square` also for one that is not square.
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
    require_content(flat.picture, str(path))
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
    """Whether the border is not near white: over a quarter of the top edge and of the upper two thirds of the sides.

    Shoulders reach the lower edge, and hair may touch the others.
    """
    pixels = np.asarray(picture)
    height = max(1, len(pixels) * 2 // 3)
    border = np.concatenate([pixels[0], pixels[:height, 0], pixels[:height, -1]])
    return float((border.min(axis=1) < _NEAR_WHITE).mean()) > 0.25


def _read(path: Path, data: bytes | None, square: bool, background: tuple[int, int, int], colours: bool) -> Photo:
    with Image.open(path if data is None else io.BytesIO(data), formats=_formats()) as file:
        if file.width * file.height > MAX_PIXELS:
            raise _too_large(path, f"{file.width} x {file.height}")
        if square and file.width != file.height:
            raise ConfigError(
                f"{path}: expected a square picture, framed like the dataset's, got {file.width} x {file.height}; "
                "'spinmeround align' crops a photo"
            )
        profile = file.info.get("icc_profile") if colours else None
        notes = []
        upright, problem = _upright(file)
        if problem:
            notes.append(f"{path}: its EXIF data can't be read, so it is taken as upright")
        tags = getattr(file, "tag_v2", {})
        image = _eight_bits(upright, tags, path)
        if upright.mode.startswith("I;16") and tags.get(_BITS_PER_SAMPLE, (16,))[0] == 16:
            high = int(np.asarray(upright).max())
            if high <= _TWELVE_BITS:
                notes.append(
                    f"{path}: its largest value is {high} of 65535, so it is read as very dark; if its values have 12 "
                    "bits or fewer, scale them to 16"
                )
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if alpha is not None and alpha.getextrema() == (0, 0):
        raise ConfigError(f"{path}: expected a picture that shows a head, found one that is transparent everywhere")
    flat, known = _srgb(image, profile)
    if not known:
        notes.append(f"{path}: its colour profile can't be used, so its colours are taken as sRGB")
    if alpha is not None:
        flat = Image.composite(flat, Image.new("RGB", flat.size, background), alpha)
    cut_out = alpha is not None and alpha.getextrema() != (255, 255)
    return Photo(flat, cut_out, tuple(notes))


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
