"""The bare head: cranium, face, jaw, cheeks and brow ridges, without features.

Also where the features go: `Anatomy` finds the skin's depth at the eyes, nose and mouth of this
skull, so that features sit on the surface whatever the skull's shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from spinmeround.panohead_bridge.procedural.amounts import mouth_gap
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    Triple,
    ellipsoid,
    smooth_difference,
    smooth_union,
)
from spinmeround.panohead_bridge.procedural.traits import Traits

CRANIUM_CENTRE = (0.0, 0.070, -0.022)
CONVERGED = 2e-7
BEYOND = 2.0
"""Length at which a ray has left the cube."""

MET = 1e-4
"""A ray whose last step is shorter has hit the surface."""


def skullcap(t: Traits, p: Points) -> Scalars:
    """Cranium, forehead and the sides down to the ears: the part that grows hair."""
    cranium = ellipsoid(p, CRANIUM_CENTRE, (t.cranium_width, t.cranium_height, t.cranium_length))
    forehead = ellipsoid(p, (0.0, 0.078, 0.050 + t.forehead_bulge), (t.cranium_width - 0.022, 0.082, 0.086))
    side = ellipsoid(p, (0.0, 0.004, -0.034), (t.cranium_width - 0.012, 0.082, 0.112))
    return smooth_union(smooth_union(cranium, forehead, 0.040), side, 0.040)


def face(t: Traits, right: Points) -> Scalars:
    """Face, jaw, chin and cheeks; takes mirrored points."""
    chin = chin_height(t)
    side = t.face_width
    middle = ellipsoid(right, (0.0, -0.030, 0.054), (side, 0.118 + t.face_length, 0.088))
    jaw = ellipsoid(right, (0.0, chin + 0.052, 0.060), (t.jaw_width + 0.010, 0.056, 0.066))
    corner = ellipsoid(right, (t.jaw_width, chin + 0.088, 0.012), (0.030, 0.042, 0.046))
    point = ellipsoid(right, (0.0, chin + 0.027, 0.096 + t.chin_projection), (t.chin_width + 0.008, 0.028, 0.028))
    bone = ellipsoid(right, (side - 0.026, -0.024, 0.088 + t.cheekbone), (0.036, 0.026, 0.038))
    full = t.cheek_fullness
    cheek = ellipsoid(right, (side * 0.55, -0.074, 0.080), (0.044 * full, 0.052 * full, 0.046 * full))
    solid = smooth_union(middle, smooth_union(jaw, corner, 0.045), 0.050)
    solid = smooth_union(solid, point, 0.040)
    return smooth_union(smooth_union(solid, bone, 0.035), cheek, 0.035)


def bare_head(t: Traits, right: Points, cap: Scalars) -> Scalars:
    """Skin before eyes, nose, lips and ears; takes mirrored points and their skullcap distance."""
    solid = smooth_union(cap, face(t, right), 0.045)
    brow = t.eye_height + t.brow_height
    ridge = ellipsoid(right, (0.038, brow + 0.002, 0.108 + t.brow_ridge), (0.050, 0.015, 0.026))
    socket = ellipsoid(right, (t.eye_spacing, t.eye_height + 0.003, 0.152), (0.036, 0.022, 0.030 + t.eye_depth))
    return smooth_difference(smooth_union(solid, ridge, 0.030), socket, 0.030)


def chin_height(t: Traits) -> float:
    """Height of the chin; an open mouth lowers it."""
    return -0.180 - t.face_length - 0.75 * mouth_gap(t)


def first_hits(
    distance: Callable[[Points], Scalars], starts: Sequence[Triple], directions: Sequence[Triple], steps: int = 64
) -> list[Triple]:
    """Where rays from outside first meet a surface, by sphere tracing; NaN for those that miss or start inside."""
    origins, headings = torch.tensor(starts, dtype=torch.float32).T, torch.tensor(directions, dtype=torch.float32).T
    travelled, step = torch.zeros(len(starts)), torch.zeros(len(starts))
    with torch.inference_mode():
        outside = distance(Points(*origins)) >= 0.0
        for _ in range(steps):
            step = 0.9 * distance(Points(*(origins + travelled * headings)))
            travelled = travelled + step
            if ((step.abs() < CONVERGED) | (travelled > BEYOND)).all():
                break
        met = outside & (step.abs() < MET) & (travelled < BEYOND)
        places = torch.where(met, origins + travelled * headings, torch.nan)
    return [(x, y, z) for x, y, z in places.T.tolist()]


def first_hit(distance: Callable[[Points], Scalars], start: Triple, direction: Triple) -> Triple:
    return first_hits(distance, [start], [direction])[0]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Places on one skull, in world units; paired places are given for x > 0."""

    eye: Triple
    nose_root: Triple
    nose_tip: Triple
    mouth: Triple
    mouth_corner: Triple
    ear: Triple
    chin: float
    brow_height: float


def anatomy(t: Traits) -> Anatomy:
    def skin(p: Points) -> Scalars:
        return bare_head(t, p.mirrored(), skullcap(t, p))

    base_y = t.eye_height - t.nose_length
    mouth_y = base_y - t.mouth_drop
    places = (
        (0.0, t.eye_height + 0.012),
        (0.0, base_y),
        (t.eye_spacing, t.eye_height),
        (0.0, mouth_y),
        (t.mouth_width, mouth_y + t.smile * t.mouth_width**2),
    )
    root, base, eye, mouth, corner = first_hits(
        skin, [(x, y, 0.45) for x, y in places], [(0.0, 0.0, -1.0)] * len(places)
    )
    return Anatomy(
        eye=eye,
        nose_root=(0.0, root[1], root[2] + t.nose_bridge - 0.004),
        nose_tip=(0.0, base[1] + 0.008 + t.nose_upturn, base[2] + t.nose_projection),
        mouth=mouth,
        mouth_corner=corner,
        ear=first_hit(skin, (0.45, t.eye_height - 0.020, -0.012), (-1.0, 0.0, 0.0)),
        chin=chin_height(t),
        brow_height=t.eye_height + t.brow_height + 0.006 * t.brow_raise,
    )
