"""Signed distances of simple solids and smooth ways of joining them, on torch vectors of points.

All functions are elementwise, so that a point's value does not depend on its neighbours in the batch.
Distances are in world units, negative inside. Ellipsoids use the first-order bound of I. Quilez
("distance to an ellipsoid"), whose gradient has length one on the surface; smooth joins are his
quadratic polynomial minimum, which equals the sharp minimum where the two distances differ by more
than `width`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Scalars = Float[Tensor, " point"]
Triple = tuple[float, float, float]


class Points(NamedTuple):
    """Coordinates of points, one contiguous vector per axis."""

    x: Tensor
    y: Tensor
    z: Tensor

    def shifted(self, offset: Triple) -> "Points":
        return Points(self.x - offset[0], self.y - offset[1], self.z - offset[2])

    def mirrored(self) -> "Points":
        """The right half (x > 0) for both halves, rounded by a thousandth at the plane x = 0."""
        return Points(torch.sqrt(self.x * self.x + 1e-6), self.y, self.z)

    def take(self, index: Tensor) -> "Points":
        return Points(self.x[index], self.y[index], self.z[index])


def ellipsoid(p: Points, centre: Triple, radii: Triple) -> Scalars:
    """Distance bound of an axis-aligned ellipsoid."""
    x, y, z = ((value - c) / r for value, c, r in zip(p, centre, radii, strict=True))
    smallest = min(radii)
    x2, y2, z2 = x * x, y * y, z * z
    scaled = torch.sqrt(x2 + y2 + z2 + 1e-12)
    slope = torch.sqrt(x2 / radii[0] ** 2 + y2 / radii[1] ** 2 + z2 / radii[2] ** 2 + 1e-12 / smallest**2)
    return scaled * (scaled - 1.0) / slope


def sphere(p: Points, centre: Triple, radius: float) -> Scalars:
    x, y, z = p.shifted(centre)
    return torch.sqrt(x * x + y * y + z * z + 1e-12) - radius


def elliptic_cylinder(p: Points, centre: tuple[float, float], radii: tuple[float, float]) -> Scalars:
    """Distance bound of an infinite upright cylinder; centre and radii are in (x, z)."""
    x, z = (p.x - centre[0]) / radii[0], (p.z - centre[1]) / radii[1]
    x2, z2 = x * x, z * z
    scaled = torch.sqrt(x2 + z2 + 1e-12)
    slope = torch.sqrt(x2 / radii[0] ** 2 + z2 / radii[1] ** 2 + 1e-12 / min(radii) ** 2)
    return scaled * (scaled - 1.0) / slope


def capsule(p: Points, start: Triple, end: Triple, start_radius: float, end_radius: float) -> Scalars:
    """Distance bound of a tapered capsule (good while the taper is gentle)."""
    axis = tuple(e - s for s, e in zip(start, end, strict=True))
    x, y, z = p.shifted(start)
    along = (x * axis[0] + y * axis[1] + z * axis[2]) / sum(a * a for a in axis)
    along = along.clamp(0.0, 1.0)
    x, y, z = x - along * axis[0], y - along * axis[1], z - along * axis[2]
    return torch.sqrt(x * x + y * y + z * z + 1e-12) - (start_radius + (end_radius - start_radius) * along)


def smooth_union(
    a: Float[Tensor, "*part point"], b: Float[Tensor, "*part point"], width: float
) -> Float[Tensor, "*part point"]:
    overlap = (width - (a - b).abs()).clamp(min=0.0)
    return torch.minimum(a, b) - overlap * overlap * (0.25 / width)


def smooth_intersection(a: Float[Tensor, "*part point"], b: Scalars, width: float) -> Float[Tensor, "*part point"]:
    overlap = (width - (a - b).abs()).clamp(min=0.0)
    return torch.maximum(a, b) + overlap * overlap * (0.25 / width)


def smooth_difference(a: Scalars, b: Scalars, width: float) -> Scalars:
    """`a` without `b`."""
    return smooth_intersection(a, -b, width)


def smoothstep(value: Scalars, low: float, high: float) -> Scalars:
    """Zero below `low`, one above `high`, with a continuous slope; `low` may exceed `high`."""
    t = ((value - low) * (1.0 / (high - low))).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def gaussian1(value: Scalars, sigma: float) -> Scalars:
    """One at zero, falling as a bell of that width."""
    return torch.exp(value * value * (-0.5 / sigma**2))
