"""Conversion between cameras and transforms.json, the format of nerfstudio and instant-ngp.

In the file a camera looks along -z with y up (OpenGL axes) and intrinsics are in pixels; the world frame is unchanged,
y up.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.cameras import Cameras, is_rotation

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV camera axes to OpenGL's, and back."""


def transforms_json(
    cameras: Cameras, side: int, files: Sequence[str], more: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """The document for square images of this side, one file per camera; `more` holds further files per frame, by key.

    Raises ValueError if the number of files differs from the number of cameras.
    """
    others = dict(more or {})
    for name, paths in {"files": files, **others}.items():
        if len(paths) != len(cameras):
            raise ValueError(f"{name}: expected {len(cameras)}, one per camera, got {len(paths)}")
    pixels = cameras.intrinsics.astype(np.float64) * side
    frames = [
        {
            "file_path": file,
            **{key: paths[view] for key, paths in others.items()},
            "transform_matrix": (cameras.cam2world[view].astype(np.float64) @ FLIP).tolist(),
            "fl_x": float(pixels[view, 0, 0]),
            "fl_y": float(pixels[view, 1, 1]),
            "cx": float(pixels[view, 0, 2]),
            "cy": float(pixels[view, 1, 2]),
            "w": side,
            "h": side,
        }
        for view, file in enumerate(files)
    ]
    return {"camera_model": "OPENCV", "orientation_override": "none", "frames": frames}


def cameras_of_transforms(document: Mapping[str, Any]) -> Cameras:
    """The cameras of a document's frames, in order; intrinsics may be per frame or at the top level.

    Raises ValueError for a document without frames, missing or invalid intrinsics, images that are not square, and
    matrices that are not rigid.
    """
    frames = document.get("frames")
    if not isinstance(frames, Sequence) or not frames:
        raise ValueError("frames: expected a list of one or more frames, got none")
    poses = np.stack([_pose(frame, number) for number, frame in enumerate(frames)])
    position = poses[:, :3, 3]
    radius = np.linalg.norm(position, axis=-1)
    return Cameras(
        cam2world=poses.astype(np.float32),
        intrinsics=np.stack([_intrinsics({**document, **frame}, n) for n, frame in enumerate(frames)]).astype(
            np.float32
        ),
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
        raise ValueError(f"frames[{number}].transform_matrix: expected a rotation, got scale or reflection")
    pose: np.ndarray = matrix @ FLIP
    return pose


def _intrinsics(values: Mapping[str, Any], number: int) -> Float64[np.ndarray, "3 3"]:
    width, focal, angle = (_number(values, name, number) for name in ("w", "fl_x", "camera_angle_x"))
    if focal is None and width is not None and angle is not None:
        focal = width / (2 * np.tan(angle / 2))
    if width is None or focal is None:
        raise ValueError(f"frames[{number}]: expected w and fl_x (or camera_angle_x), in the frame or at the top level")
    if _number(values, "h", number) not in (None, width):
        raise ValueError(f"frames[{number}]: expected a square image, got w {width:g} and h {values['h']}")
    fy, cx, cy = (_number(values, name, number) for name in ("fl_y", "cx", "cy"))
    fy, cx, cy = (focal if fy is None else fy), (width / 2 if cx is None else cx), (width / 2 if cy is None else cy)
    return np.asarray(np.array([[focal, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, width]]) / width, np.float64)


def _number(values: Mapping[str, Any], name: str, number: int) -> float | None:
    """An intrinsic parameter, None if absent; must be positive unless it is the principal point."""
    found = values.get(name)
    if found is None:
        return None
    finite = isinstance(found, int | float) and math.isfinite(found)
    if not finite or (name not in ("cx", "cy") and found <= 0):
        expected = "a number" if name in ("cx", "cy") else "a number above 0"
        raise ValueError(f"frames[{number}].{name}: expected {expected}, got {found!r}")
    return float(found)
