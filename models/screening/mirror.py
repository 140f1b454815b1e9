"""The mirror plane of a head, fitted to its surface, so that a tilted, turned or shifted head stays symmetric.

Lengths are in sides of the cube, positions relative to the cube's centre.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy import ndimage
from scipy.optimize import least_squares

MOST_TURN_DEG = 25.0
"""Largest roll and yaw of a head that the fit considers; beyond it, planes that swap face and back come near."""

SOFT = 0.008
"""Distance from the mirrored surface above which a point counts less: buns, earrings and partings are one-sided."""

POINTS = 1500
"""Surface points that the fit uses."""


@dataclass(frozen=True, kw_only=True)
class MirrorPlane:
    """The plane `normal . x = offset`; the normal is unit and points to the right of the frontal picture (+x)."""

    normal: Float64[np.ndarray, "3"]
    offset: float

    def reflect(self, points: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
        """The mirror images of points."""
        return np.asarray(points - 2.0 * (points @ self.normal - self.offset)[..., None] * self.normal)

    @staticmethod
    def of(roll_deg: float, yaw_deg: float, offset: float) -> "MirrorPlane":
        """The plane of a head with this roll (about +z, anticlockwise from the front) and yaw (about +y)."""
        roll, yaw = np.radians([roll_deg, yaw_deg])
        normal = np.array([np.cos(yaw) * np.cos(roll), np.sin(roll), -np.sin(yaw) * np.cos(roll)])
        return MirrorPlane(normal=normal, offset=float(offset))


CENTRAL = MirrorPlane.of(0.0, 0.0, 0.0)
"""The plane x = 0 of an upright, centred head."""


def fit_mirror_plane(density: Float32[np.ndarray, "x y z"], level: float, lowest: float = -0.5) -> MirrorPlane:
    """The plane for which the mirrored surface lies closest to the surface; CENTRAL for an empty grid.

    Minimises the Cauchy loss of the distances of mirrored surface points from the surface, over roll, yaw and offset.
    Points below the height `lowest` do not count, since neck and shoulders do not turn with a head.
    """
    inside = _largest_piece(density > level)
    points = _surface_points(density, level, inside, lowest)
    if len(points) < 100:
        return CENTRAL
    coarse = _signed_distance(inside)

    def residual(parameters: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, " point"]:
        mirrored = MirrorPlane.of(*parameters * (10.0, 10.0, 0.1)).reflect(points)  # comparable steps
        places = ((mirrored + 0.5) * (len(coarse) - 1)).T
        return np.asarray(ndimage.map_coordinates(coarse, places, order=1, mode="nearest"), np.float64) / SOFT

    middle = float(np.median(points[:, 0]))
    starts = [np.array([roll, yaw, 10.0 * middle]) for roll, yaw in product((-1.0, 0.0, 1.0), repeat=2)]
    start = min(starts, key=lambda each: float(np.log1p(residual(each) ** 2).sum()))
    most = 0.1 * MOST_TURN_DEG
    limits = ([-most, -most, -3.0], [most, most, 3.0])
    found = least_squares(residual, np.clip(start, *limits), bounds=limits, loss="cauchy", diff_step=0.01, max_nfev=30)
    return MirrorPlane.of(*found.x * (10.0, 10.0, 0.1))


def _largest_piece(inside: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    labels, pieces = ndimage.label(inside)
    if pieces < 2:
        return inside
    largest: Bool[np.ndarray, "x y z"] = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    return largest


def _surface_points(
    density: Float32[np.ndarray, "x y z"], level: float, inside: Bool[np.ndarray, "x y z"], lowest: float
) -> Float64[np.ndarray, "point 3"]:
    """At most POINTS places where grid lines cross the surface, evenly chosen; none in the lowest eighth, the cut."""
    found = []
    for dimension in range(3):
        near, far = (np.moveaxis(inside, dimension, 0)[part] for part in (slice(None, -1), slice(1, None)))
        cells = np.argwhere(np.moveaxis(near != far, 0, dimension))
        beyond = cells.copy()
        beyond[:, dimension] += 1
        a, b = density[tuple(cells.T)].astype(np.float64), density[tuple(beyond.T)].astype(np.float64)
        share = np.clip((level - a) / np.where(a == b, 1.0, b - a), 0.0, 1.0)
        places = cells.astype(np.float64)
        places[:, dimension] += share
        found.append(places)
    points = np.concatenate(found) / (len(density) - 1) - 0.5
    if len(points):
        points = points[points[:, 1] > max(lowest, np.ptp(points[:, 1]) / 8 + points[:, 1].min())]
    return points[:: max(1, len(points) // POINTS)]


def _signed_distance(inside: Bool[np.ndarray, "x y z"]) -> Float32[np.ndarray, "half_x half_y half_z"]:
    """Distance to the surface at every second node, negative inside, smoothed over a node."""
    coarse = inside[::2, ::2, ::2]
    distance = ndimage.distance_transform_edt(~coarse) - ndimage.distance_transform_edt(coarse)
    return np.asarray(ndimage.gaussian_filter(distance / (len(coarse) - 1), 0.8), np.float32)
