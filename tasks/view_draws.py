"""Which views of a head go together in a sample: one rule for the training and for the loader."""

import numpy as np
from jaxtyping import Float32, Int64


def facing_views(azimuth_deg: Float32[np.ndarray, " all_views"]) -> Int64[np.ndarray, " facing"]:
    """The views that show part of the face: |azimuth| up to 90 degrees. Raises ValueError where there is none."""
    facing = np.flatnonzero(np.abs((azimuth_deg.astype(np.float64) + 180) % 360 - 180) <= 90 + 1e-3)
    if not len(facing):
        raise ValueError("views: expected one with |azimuth| up to 90 degrees, the dataset has none")
    return facing


def draw_views(
    views: int,
    facing: Int64[np.ndarray, " facing"],
    all_views: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " views"]:
    """Different views of one head in random order; the first is one of `facing`, where there are any."""
    order = rng.permutation(all_views)
    if len(facing):
        first = rng.choice(facing)
        order = np.concatenate([[first], order[order != first]])
    return order[:views]
