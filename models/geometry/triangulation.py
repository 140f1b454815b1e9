"""Points that several cameras see, by the rays through their places in the pictures, in spite of outliers."""

from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float64

_LEAST_ANGLE_RAD = np.radians(1.0)
"""Rays that meet at a smaller angle do not tell the distance of a point."""
_REFINEMENTS = 10
_EXACT_RAD = 1e-9
"""Far below the angle of a pixel."""

Rays = Float64[np.ndarray, "ray 3"]


def triangulate(
    origins: Float64[np.ndarray, "view 3"],
    directions: Float64[np.ndarray, "view point 3"],
    tolerance_rad: Float64[np.ndarray, " view"],
) -> tuple[Float64[np.ndarray, "point 3"], Bool[np.ndarray, "view point"]]:
    """Points by unit vectors from `origins`, NaN where a view does not see a point; and the views that agree.

    A point is that of the pair of rays with which most others agree to `tolerance_rad` (a consensus over all pairs,
    so the result has no chance in it), then of all that agree. It is NaN where no two views agree.
    """
    points, agreeing = np.full((directions.shape[1], 3), np.nan), np.zeros(directions.shape[:2], bool)
    for number in range(directions.shape[1]):
        rays = directions[:, number]
        seen = np.flatnonzero(np.isfinite(rays).all(axis=1))
        found = _consensus(origins[seen], rays[seen], tolerance_rad[seen])
        if found is not None:
            points[number], agreeing[seen, number] = found
    return points, agreeing


def nearest_point(origins: Rays, directions: Rays, weights: Float64[np.ndarray, " ray"]) -> Float64[np.ndarray, "3"]:
    """The point with the least weighted sum of squared distances to rays, at least two of which are not parallel."""
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]  # ray 3 3
    across *= weights[:, None, None]
    return np.asarray(np.linalg.solve(across.sum(axis=0), np.einsum("rij,rj->i", across, origins)))


def _consensus(
    origins: Rays, directions: Rays, tolerance_rad: Float64[np.ndarray, " ray"]
) -> tuple[Float64[np.ndarray, "3"], Bool[np.ndarray, " ray"]] | None:
    best: tuple[int, float] = (1, 0.0)
    chosen = None
    for first, second in combinations(range(len(origins)), 2):
        pair = [first, second]
        if np.linalg.norm(np.cross(*directions[pair])) < np.sin(_LEAST_ANGLE_RAD):
            continue
        angles = _angles(origins, directions, nearest_point(origins[pair], directions[pair], np.ones(2)))
        agree = angles <= tolerance_rad
        score = int(agree.sum()), -float((angles / tolerance_rad)[agree].sum())
        if agree[pair].all() and score > best:
            best, chosen = score, agree
    return None if chosen is None else _refined(origins, directions, chosen)


def _refined(
    origins: Rays, directions: Rays, agree: Bool[np.ndarray, " ray"]
) -> tuple[Float64[np.ndarray, "3"], Bool[np.ndarray, " ray"]]:
    """The point of all rays that agree, by Cauchy's weights of their angles: what is far from most counts little."""
    origins, directions = origins[agree], directions[agree]
    weights = np.ones(len(origins))
    for _ in range(_REFINEMENTS):
        point = nearest_point(origins, directions, weights)
        angles = _angles(origins, directions, point)
        scale = float(np.median(angles)) + _EXACT_RAD
        weights = 1.0 / (np.square(point - origins).sum(axis=1) * (1.0 + np.square(angles / scale)))
        weights /= weights.max()
    return point, agree


def _angles(origins: Rays, directions: Rays, point: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, " ray"]:
    """Angles between rays and the directions to a point, in radians."""
    towards = point - origins
    across = np.linalg.norm(np.cross(directions, towards), axis=1)
    return np.asarray(np.arctan2(across, np.einsum("ri,ri->r", directions, towards)))
