"""Validation of cameras that a user supplies, and detection of duplicates. Importing it loads no scipy."""

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, is_rotation

SAME_CAMERA = 1e-4
"""Largest distance between the poses and intrinsics of two equal cameras; far above float32 rounding."""

MIN_DISTANCE = 0.87
"""Half the diagonal of the head's cube, in world units."""


def check_cameras(name: str, cameras: Cameras) -> None:
    """Checks that cameras are rigid, finite and outside the head's cube, and that focal lengths are positive.

    Raises ValueError with `name` and the index of the first invalid camera.
    """
    finite, rotation = np.isfinite(cameras.cam2world).all(axis=(1, 2)), cameras.cam2world[:, :3, :3].astype(np.float64)
    invalid = np.flatnonzero(~finite | ~is_rotation(np.where(finite[:, None, None], rotation, 0.0)))
    if len(invalid):
        raise ValueError(
            f"{name}: expected rigid poses of finite numbers, got {cameras.cam2world[invalid[0]].tolist()} for "
            f"camera {invalid[0]}"
        )
    distance = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=-1)
    invalid = np.flatnonzero(~(distance >= MIN_DISTANCE))
    if len(invalid):
        raise ValueError(
            f"{name}: expected cameras at a distance of {MIN_DISTANCE} or more from the head's centre, "
            f"got {distance[invalid[0]]:.3g} for camera {invalid[0]}; {_unit(float(np.median(distance)))}"
        )
    focal = cameras.intrinsics[:, [0, 1], [0, 1]]
    invalid = np.flatnonzero(~(focal > 0).all(axis=1) | ~np.isfinite(cameras.intrinsics).all(axis=(1, 2)))
    if len(invalid):
        raise ValueError(
            f"{name}: expected finite intrinsics with positive focal lengths (in image sides), "
            f"got focal {focal[invalid[0]].tolist()} for camera {invalid[0]}"
        )


def _unit(distance: float) -> str:
    """What the unit of positions is, and the factor to it if the distance is that of the training in another."""
    usual = ViewGrid().radius
    factor = f" (multiply them by about {usual / distance:.2g})" if distance > 0 else ""
    return (
        f"the unit is the side of the head's cube, and {usual:g} is usual: perhaps the positions are in a larger unit, "
        f"as metres{factor}"
    )


def check_distinct(name: str, cameras: Cameras) -> None:
    """Raises ValueError if two of the views share a camera."""
    repeated = [(first, view) for view, first in enumerate(first_occurrences(cameras)) if first != view]
    if repeated:
        first, second = repeated[0]
        raise ValueError(
            f"{name}: expected views from different cameras, got the same camera for views {first} and {second}"
        )


def first_occurrences(cameras: Cameras) -> list[int]:
    """For each camera the index of the first camera equal to it; its own index if it has no earlier duplicate."""
    from scipy.spatial import KDTree

    parameters = camera_parameters(cameras)
    return [min(equal) for equal in KDTree(parameters).query_ball_point(parameters, SAME_CAMERA)]


def camera_parameters(cameras: Cameras) -> Float64[np.ndarray, "view 25"]:
    """Pose and intrinsics of each camera as one vector."""
    rows = cameras.cam2world.reshape(-1, 16), cameras.intrinsics.reshape(-1, 9)
    return np.concatenate(rows, axis=1).astype(np.float64)
