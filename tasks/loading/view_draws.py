"""Which views of a head go together in a sample: one rule for the training and for the loader."""

import numpy as np
from jaxtyping import Float32, Int64

from spinmeround.models.diffusion.groups import PART_OF_THE_FACE_DEG, angles_between_deg, turned_away_deg
from spinmeround.models.geometry.cameras import Cameras


def facing_views(
    azimuth_deg: Float32[np.ndarray, " all_views"], limit_deg: float = PART_OF_THE_FACE_DEG
) -> Int64[np.ndarray, " facing"]:
    """The views with |azimuth| up to a limit; by default those that show part of the face.

    Raises ValueError where there is none.
    """
    facing = np.flatnonzero(turned_away_deg(azimuth_deg) <= limit_deg + 1e-3)
    if not len(facing):
        raise ValueError(f"views: expected one with |azimuth| up to {limit_deg:g} degrees, the dataset has none")
    return facing


def nearest_views(cameras: Cameras, view: int, count: int) -> Int64[np.ndarray, " count"]:
    """So many views that lie nearest to one of them, itself among them, by the angle between cameras."""
    angles = np.round(angles_between_deg(cameras[[view]], cameras)[0], 3)  # equal angles: the lower index
    return np.argsort(angles, kind="stable")[:count]


def draw_views(
    views: int,
    facing: Int64[np.ndarray, " facing"],
    others: Int64[np.ndarray, " other"],
    rng: np.random.Generator,
) -> Int64[np.ndarray, " views"]:
    """Different views of one head in random order. The first is one of `facing`, if there are any; the rest are of
    `others`."""
    order = rng.permutation(others)
    if len(facing):
        first = rng.choice(facing)
        order = np.concatenate([[first], order[order != first]])
    return order[:views]
