"""Which target views are generated together: a pure function of the cameras, whatever order they come in."""

import numpy as np

from models.geometry.cameras import Cameras

ALLOWED_CONDITIONING = (0, 1, 3)
"""How many conditioning views the model is trained with."""


def plan_groups(targets: Cameras, size: int) -> list[list[int]]:
    """Indices of the targets of each group, `size` of them, neighbours in azimuth together.

    Every target is in a group; a last group that is short is filled up with targets of the first, whose second
    results are to be ignored: each index counts where it comes first.
    """
    if size < 1 or len(targets) < 1:
        raise ValueError(f"groups: expected 1 or more targets in groups of 1 or more, got {len(targets)} in {size}")
    order = np.lexsort((targets.elevation_deg, np.mod(targets.azimuth_deg, 360.0))).tolist()
    filled = order + [order[i % len(order)] for i in range(-len(order) % size)]
    return [filled[start : start + size] for start in range(0, len(filled), size)]


def check_cameras(name: str, cameras: Cameras, *, nearest: float = 0.87) -> None:
    """Raises ValueError for a camera inside the head's cube (half its diagonal is 0.87) or one that is not finite."""
    distance = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=-1)
    wrong = np.flatnonzero(~(distance >= nearest) | ~np.isfinite(cameras.cam2world).all(axis=(1, 2)))
    if len(wrong):
        raise ValueError(
            f"{name}: expected cameras at a distance of {nearest} or more from the head's centre, "
            f"got {distance[wrong[0]]:.3g} for camera {wrong[0]}"
        )
