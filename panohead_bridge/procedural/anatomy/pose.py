"""Where a head is in the world: size, offset, and how the head turns on the neck.

Three frames: the world; the body's, in which the shoulders stay upright; and the head's, turned about a pivot in
the neck. The body's and the head's have the head's unit. A turn preserves distances.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Triple
from spinmeround.panohead_bridge.procedural.traits import Traits

SCALE, OFFSET = 1.12, (0.0, -0.024, 0.016)
"""Size and position of the mean head in the world: it fills the picture, and no hair style leaves it."""

PIVOT: Triple = (0.0, -0.050, -0.035)
"""Where the skull turns on the neck, in the head's unit."""


@dataclass(frozen=True)
class Pose:
    """`turn` maps directions of the head's frame to the body's; `offset` is the body's origin in the world."""

    turn: Float[np.ndarray, "3 3"]
    offset: Triple

    @staticmethod
    def of(t: Traits) -> "Pose":
        offset = (OFFSET[0] + t.offset_x, OFFSET[1] + t.offset_y, OFFSET[2])
        return Pose(_about(2, t.tilt_deg) @ _about(1, t.yaw_deg) @ _about(0, t.pitch_deg), offset)

    def body(self, p: Points) -> Points:
        """World points in the body's frame."""
        return Points(*((value - offset) * (1.0 / SCALE) for value, offset in zip(p, self.offset, strict=True)))

    def head(self, body: Points) -> Points:
        """Points of the body's frame in the head's."""
        x, y, z = body.shifted(PIVOT)
        turned = (
            x * float(column[0]) + y * float(column[1]) + (z * float(column[2]) + pivot)
            for column, pivot in zip(self.turn.T, PIVOT, strict=True)
        )
        return Points(*turned)

    def world(self, place: Triple) -> Triple:
        """A place of the head's frame in the world."""
        body = self.turn @ (np.asarray(place) - PIVOT) + PIVOT
        x, y, z = (SCALE * body + self.offset).tolist()
        return x, y, z

    def direction(self, direction: Triple) -> Triple:
        """A direction of the head's frame in the world."""
        x, y, z = (self.turn @ np.asarray(direction)).tolist()
        return x, y, z


def _about(axis: int, degrees: float) -> Float[np.ndarray, "3 3"]:
    """The right-handed turn about an axis."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix
