"""Cameras as a transforms.json, the file that nerfstudio and instant-ngp read, and back.

There a camera looks along -z with y up (OpenGL's axes) and lens numbers are in pixels; the world is ours, y up.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.cameras import Cameras, is_rotation

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV's camera axes to OpenGL's, and back."""


def transforms_json(
    cameras: Cameras, side: int, files: Sequence[str], more: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """The document for square pictures of this side, one file a camera; `more` are other files of each frame, by key.

    Raises ValueError for another number of files than of cameras.
    """
    others = dict(more or {})
    for name, paths in {"files": files, **others}.items():
        if len(paths) != len(cameras):
            raise ValueError(f"{name}: expected {len(cameras)}, one a camera, got {len(paths)}")
    lens = cameras.intrinsics.astype(np.float64) * side
    frames = [
        {
            "file_path": file,
            **{key: paths[view] for key, paths in others.items()},
            "transform_matrix": (cameras.cam2world[view].astype(np.float64) @ FLIP).tolist(),
            "fl_x": float(lens[view, 0, 0]),
            "fl_y": float(lens[view, 1, 1]),
            "cx": float(lens[view, 0, 2]),
            "cy": float(lens[view, 1, 2]),
            "w": side,
            "h": side,
        }
        for view, file in enumerate(files)
    ]
    return {"camera_model": "OPENCV", "orientation_override": "none", "frames": frames}


def cameras_of_transforms(document: Mapping[str, Any]) -> Cameras:
    """The cameras of a document, of its frames in their order; lens numbers may stand in a frame or once for all.

    Raises ValueError for a document without frames, without a lens, for lens numbers that can't be, for a picture that
    is not square, and for a matrix that does not turn rigidly.
    """
    frames = document.get("frames")
    if not isinstance(frames, Sequence) or not frames:
        raise ValueError("frames: expected a list of one frame or more, got none")
    poses = np.stack([_pose(frame, number) for number, frame in enumerate(frames)])
    position = poses[:, :3, 3]
    radius = np.linalg.norm(position, axis=-1)
    return Cameras(
        cam2world=poses.astype(np.float32),
        intrinsics=np.stack([_lens({**document, **frame}, n) for n, frame in enumerate(frames)]).astype(np.float32),
        azimuth_deg=np.degrees(np.arctan2(position[:, 0], position[:, 2])).astype(np.float32),
        elevation_deg=np.degrees(np.arcsin(position[:, 1] / np.maximum(radius, 1e-12))).astype(np.float32),
    )


def _pose(frame: Any, number: int) -> Float64[np.ndarray, "4 4"]:
    try:
        matrix = np.asarray(frame["transform_matrix"], np.float64)
    except (KeyError, TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"frames[{number}].transform_matrix: expected 4 rows of 4 finite numbers")
    if not is_rotation(matrix[:3, :3]):
        raise ValueError(f"frames[{number}].transform_matrix: expected a rotation, got one that scales or mirrors")
    pose: np.ndarray = matrix @ FLIP
    return pose


def _lens(values: Mapping[str, Any], number: int) -> Float64[np.ndarray, "3 3"]:
    width, focal, angle = (_number(values, name, number) for name in ("w", "fl_x", "camera_angle_x"))
    if focal is None and width is not None and angle is not None:
        focal = width / (2 * np.tan(angle / 2))
    if width is None or focal is None:
        raise ValueError(f"frames[{number}]: expected w and fl_x (or camera_angle_x), in the frame or once for all")
    if _number(values, "h", number) not in (None, width):
        raise ValueError(f"frames[{number}]: expected a square picture, got w {width:g} and h {values['h']}")
    fy, cx, cy = (_number(values, name, number) for name in ("fl_y", "cx", "cy"))
    fy, cx, cy = (focal if fy is None else fy), (width / 2 if cx is None else cx), (width / 2 if cy is None else cy)
    return np.asarray(np.array([[focal, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, width]]) / width, np.float64)


def _number(values: Mapping[str, Any], name: str, number: int) -> float | None:
    """A lens number, None where there is none; all but the principal point are more than 0."""
    found = values.get(name)
    if found is None:
        return None
    whole = isinstance(found, int | float) and math.isfinite(found)
    if not whole or (name not in ("cx", "cy") and found <= 0):
        asked = "a number" if name in ("cx", "cy") else "a number over 0"
        raise ValueError(f"frames[{number}].{name}: expected {asked}, got {found!r}")
    return float(found)
