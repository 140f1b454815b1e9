"""Random draws of views, shared by the loader, the training and the evaluation.

A random number is a function of a seed and of the position it is drawn for (epoch or step, sample, purpose). Draws are
therefore independent of batch size, workers, ranks and order.
"""

import numpy as np
from jaxtyping import Float32, Int64

from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG, Cameras, absolute_azimuth_deg, angles_between_deg


def draw_rng(seed: int, *position: int) -> np.random.Generator:
    """The random numbers of one position, such as (epoch, index, purpose).

    Positions of one seed must have equally many numbers: numpy does not distinguish [1, 2] from [1, 2, 0].
    """
    return np.random.default_rng([seed, *position])


def facing_views(
    azimuth_deg: Float32[np.ndarray, " all_views"], limit_deg: float = FACE_VISIBLE_DEG
) -> Int64[np.ndarray, " facing"]:
    """The views with |azimuth| up to a limit. The default limit selects the views that show part of the face.

    Raises ValueError if no view is within the limit.
    """
    facing = np.flatnonzero(absolute_azimuth_deg(azimuth_deg) <= limit_deg + 1e-3)
    if not len(facing):
        raise ValueError(f"views: expected one with |azimuth| up to {limit_deg:g} degrees, the dataset has none")
    return facing


def nearest_views(cameras: Cameras, view: int, count: int) -> Int64[np.ndarray, " count"]:
    """The `count` views nearest to a view, itself included, by the angle between cameras."""
    angles = np.round(angles_between_deg(cameras[[view]], cameras)[0], 3)  # ties go to the lower index
    return np.argsort(angles, kind="stable")[:count]


def draw_views(
    count: int,
    facing: Int64[np.ndarray, " facing"],
    others: Int64[np.ndarray, " other"],
    rng: np.random.Generator,
) -> Int64[np.ndarray, " count"]:
    """Draw `count` different views in random order: the first from `facing`, unless empty, the rest from `others`."""
    order = rng.permutation(others)
    if len(facing):
        first = rng.choice(facing)
        order = np.concatenate([[first], order[order != first]])
    return order[:count]
