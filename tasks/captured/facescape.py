"""FaceScape's multi-view pictures (Yang et al. 2020): subjects, expressions, and a params.json with each camera.

    1/1_neutral/0.jpg, 1.jpg, ...
    1/1_neutral/params.json    "0_K", "0_Rt", "0_distortion", "0_width", "0_height", "0_valid" and others of each view

K is 3x3 in pixels of a picture of width and height, Rt is 3x4 from world to camera with OpenCV axes, the distortion is
OpenCV's k1, k2, p1, p2, k3 (FaceScape's own code calls cv2.undistort with it). Views whose `valid` is false are left
out, as FaceScape asks. There are neither masks nor normals.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spinmeround.models.geometry.pixel_camera import PixelCamera
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.captured.params import CaptureParams
from spinmeround.tasks.captured.scene import (
    CapturedHead,
    CapturedView,
    HeadSource,
    lens_of,
    numbers_of,
    pose_of,
    size_of,
)

DOCUMENT = "params.json"
NEUTRAL = "1_neutral"
_SUFFIXES = (".jpg", ".png")


def list_facescape(source: Path, params: CaptureParams) -> list[HeadSource]:
    """The subjects in a folder, or the one that it is, with this expression. Raises ConfigError for other folders."""
    expression = params.sequence or NEUTRAL
    within = f"{expression}/{DOCUMENT}"
    folders = [source] if (source / within).is_file() else sorted(p.parents[1] for p in source.glob(f"*/{within}"))
    if not folders:
        raise ConfigError(f"{source}: expected subjects with {within}, found none; --sequence names an expression")
    return [
        HeadSource(id=(id := f"facescape-{each.absolute().name}"), read=partial(_read, each / expression, id))
        for each in folders
    ]


def _read(folder: Path, id: str) -> CapturedHead:
    path = folder / DOCUMENT
    found = read_json_object(path, "FaceScape's params.json")
    views = sorted(int(match[1]) for key in found if (match := re.fullmatch(r"([0-9]{1,6})_K", key)))
    if not views:
        raise ConfigError(f"{path}: expected a matrix 0_K of the first view, found none")
    read = [_view(path, found, view) for view in views if found.get(f"{view}_valid", True) is not False]
    if not (present := tuple(view for view in read if view is not None)):
        raise ConfigError(f"{path}: expected a valid view with a picture, found none of {len(views)}")
    return CapturedHead(id=id, views=present)


def _view(path: Path, found: Mapping[str, Any], view: int) -> CapturedView | None:
    """A view; None if its picture is not there."""
    files = (path.with_name(f"{view}{suffix}") for suffix in _SUFFIXES)
    picture = next((file for file in files if file.is_file()), None)
    if picture is None:
        return None
    name = f"{path}: {view}"
    missing = [f"{view}_{field}" for field in ("Rt", "width", "height") if f"{view}_{field}" not in found]
    if missing:
        raise ConfigError(f"{path}: {missing[0]}: expected this field, found none")
    width, height = (found[f"{view}_{field}"] for field in ("width", "height"))
    if not all(isinstance(side, int) and side > 0 for side in (width, height)):
        raise ConfigError(f"{name}_width: expected width and height in pixels, found {width!r} and {height!r}")
    distortion = numbers_of(found.get(f"{view}_distortion", []), f"{name}_distortion").ravel()
    if len(distortion) not in (0, 4, 5):
        raise ConfigError(f"{name}_distortion: expected k1, k2, p1, p2 and k3, found {len(distortion)} numbers")
    camera = PixelCamera(
        size=(width, height),
        matrix=lens_of(found[f"{view}_K"], f"{name}_K"),
        cam2world=pose_of(found[f"{view}_Rt"], f"{name}_Rt"),
        coefficients=tuple(distortion.tolist()) if distortion.any() else (),
    )
    return CapturedView(name=name, camera=camera.resized(size_of(picture)), picture=picture)
