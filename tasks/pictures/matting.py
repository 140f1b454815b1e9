"""Removes the background of photos with rembg (extra `matting`) and a network file that the user names.

Nothing is downloaded: the network's name, which is the file's, selects how rembg prepares its input.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spinmeround.storage.errors import ConfigError, one_line
from spinmeround.storage.extras import optional_dependency
from spinmeround.storage.numbers import refuse_lfs_pointer
from spinmeround.storage.weights import refuse_external_data

NETWORKS = (
    "birefnet-general",
    "birefnet-general-lite",
    "birefnet-portrait",
    "isnet-general-use",
    "silueta",
    "u2net",
    "u2net_human_seg",
    "u2netp",
)
"""Networks of rembg for people and things in general, by the names of their .onnx files."""

_EMPTY = 0.005
"""Share of a photo below which what the network keeps can't be a head."""


def check_matting(file: Path) -> None:
    """Raises ConfigError for a file that is not there, is not all of a network, or whose name rembg does not know.

    Raises MissingDependency without rembg.
    """
    if file.suffix != ".onnx" or file.stem not in NETWORKS:
        names = ", ".join(f"{name}.onnx" for name in NETWORKS)
        raise ConfigError(f"--matting: expected the file of a network of rembg ({names}), got {file.name}")
    if not file.is_file():
        raise ConfigError(f"--matting: expected the file of a network of rembg, found none at {file}")
    refuse_lfs_pointer(file)
    refuse_external_data(file)
    with optional_dependency("--matting"):
        import rembg  # noqa: F401


def cut_out(picture: Image.Image, file: Path) -> Image.Image:
    """The picture on white, without its background.

    Raises as `check_matting`, and ConfigError for a file that is no such network or where it keeps nothing.
    """
    check_matting(file)
    try:
        (mask,) = _session(file).predict(picture)
    except Exception as error:  # onnxruntime's errors have no common base
        raise ConfigError(f"--matting: expected the network {file.stem} in {file} ({one_line(error)})") from error
    if np.asarray(mask).mean() < 255 * _EMPTY:
        raise ConfigError(f"--matting: expected a head in the photo, {file.stem} finds none; cut it out by hand")
    return Image.composite(picture, Image.new("RGB", picture.size, "white"), mask)


def _session(file: Path) -> Any:
    """rembg's session of this name, made to load this file instead of downloading one."""
    import onnxruntime
    from rembg.sessions import sessions_class

    base = next(each for each in sessions_class if each.name() == file.stem)
    local: Any = type("LocalSession", (base,), {"download_models": classmethod(lambda cls, *_, **__: str(file))})
    return local(file.stem, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
