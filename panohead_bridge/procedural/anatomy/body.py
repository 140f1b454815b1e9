"""Neck, the start of the shoulders, and the garment on them, closed above the volume's floor."""

from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    capsule,
    ellipsoid,
    smooth_intersection,
    smooth_union,
)
from spinmeround.panohead_bridge.procedural.traits import Traits, switch

FLOOR = -0.390
"""Lowest height of any part, in the head's unit."""


def neck(t: Traits, right: Points) -> Scalars:
    column = capsule(right, (0.0, -0.060, -0.040), (0.0, -0.345, -0.066), t.neck_radius, t.neck_radius + 0.004)
    muscle = capsule(right, (0.072, -0.075, -0.040), (0.020, -0.300, 0.002), 0.020, 0.018)
    throat = (t.neck_radius - 0.078) * 0.6
    apple = ellipsoid(right, (0.0, -0.232, -0.052 + t.neck_radius + throat), (0.011, 0.020, 0.010))
    return smooth_union(smooth_union(column, muscle, 0.035), apple, 0.024)


def torso(t: Traits, right: Points) -> Scalars:
    chest = ellipsoid(right, (0.0, -0.412, -0.060), (t.shoulder_width, 0.122, 0.112))
    slope = capsule(right, (0.030, -0.230, -0.078), (t.shoulder_width - 0.075, -0.350, -0.068), 0.034, 0.052)
    return smooth_union(chest, slope, 0.06)


def above_floor(solid: Scalars, upright: Points) -> Scalars:
    """A solid without what hangs below the floor."""
    return smooth_intersection(solid, FLOOR + 0.003 - upright.y, 0.012)


def skin_body(t: Traits, right: Points) -> Scalars:
    body = smooth_union(neck(t, right), torso(t, right), 0.055)
    return smooth_intersection(body, FLOOR + 0.006 - right.y, 0.012)


def garment(t: Traits, right: Points, body: Scalars) -> Scalars:
    """A shell on the body below the neckline, which is higher on the darkest garments."""
    collar = -0.250 + 0.040 * switch(t.garment_lightness, 0.35, 0.05) - 0.30 * (right.z + 0.07).clamp(min=-0.06)
    shell = smooth_intersection(body - 0.0075, right.y - collar, 0.010)
    return smooth_intersection(shell, FLOOR - right.y, 0.012)
