"""Pictures that documents name, and the alpha of pictures and masks, which `photos` does not keep."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from spinmeround.storage.errors import ConfigError, one_line, shortened
from spinmeround.tasks.pictures.photos import MAX_PIXELS, picture_size


def named_picture(document: Path, name: str, key: str = "file_path") -> Path:
    """The picture that a frame names; files of Blender's scenes leave out the suffix."""
    named = document.parent / os.fsdecode(name.encode("utf-8", "surrogatepass"))  # in an ASCII locale too
    candidates = [named, *(named.with_name(named.name + suffix) for suffix in (".png", ".jpg"))] if named.name else []
    try:
        return next((each for each in candidates if each.is_file()), named)
    except OSError as error:  # of a name that no file can have
        raise ConfigError(
            f"{document}: {key}: expected a picture, found {shortened(repr(name), 40)} ({error.strerror})"
        ) from error


def read_alpha(path: Path) -> UInt8[np.ndarray, "height width"] | None:
    """The alpha of an upright picture; None if it has none. Raises ConfigError as `read_mask`."""
    image = _opened(path)
    return np.asarray(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None


def read_mask(path: Path) -> UInt8[np.ndarray, "height width"]:
    """A mask as alpha: that of a picture with transparency, else its grey levels, 255 for the head.

    Raises ConfigError for a file that is no picture, or too large.
    """
    alpha = read_alpha(path)
    return np.asarray(_opened(path).convert("L")) if alpha is None else alpha


def _opened(path: Path) -> Image.Image:
    size = picture_size(path)
    if size is None or size[0] * size[1] > MAX_PIXELS:
        found = "none that can be read" if size is None else f"{size[0]} x {size[1]} pixels"
        raise ConfigError(f"{path}: expected a picture of at most {MAX_PIXELS / 1e6:.0f} megapixels, found {found}")
    try:
        with Image.open(path) as file:
            file.load()
            return ImageOps.exif_transpose(file)
    except Exception as error:  # decoders raise what they meet
        raise ConfigError(f"{path}: expected a picture, found none that can be read ({one_line(error)})") from error
