"""Features of the face: nose, eyes with lids, lips, ears.

Functions take mirrored points (x > 0 represents both sides). Features of the face change the surface only inside
`in_face`, the ears only inside `near_ears`; callers may skip the points outside.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from spinmeround.panohead_bridge.procedural.amounts import loose_length, mouth_gap, scarf
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    Triple,
    capsule,
    ellipsoid,
    smooth_difference,
    smooth_intersection,
    smooth_union,
    sphere,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy
from spinmeround.panohead_bridge.procedural.traits import Traits, switch

EYEBALL_RADIUS = 0.034
LID_THICKNESS = 0.0035


def in_face(p: Points) -> Bool[Tensor, " point"]:
    return (p.z > 0.035) & (p.x.abs() < 0.125) & (p.y < 0.085) & (p.y > -0.215)


def near_ears(p: Points) -> Bool[Tensor, " point"]:
    return (p.x.abs() > 0.085) & (p.y < 0.095) & (p.y > -0.140) & (p.z.abs() < 0.095)


def eye_centre(a: Anatomy) -> tuple[float, float, float]:
    return a.eye[0], a.eye[1], a.eye[2] - EYEBALL_RADIUS - 0.0015


def eyeball(a: Anatomy, right: Points) -> Scalars:
    return sphere(right, eye_centre(a), EYEBALL_RADIUS)


def lid_gap(t: Traits, a: Anatomy, right: Points) -> Scalars:
    """Signed distance, in the plane of the face, to the almond between the lids; negative inside.

    The almond is where two circles overlap: the upper lid's, the lower lid's with half its height.
    """
    x, y = right.x - a.eye[0], right.y - a.eye[1]
    cos, sin = math.cos(t.eye_tilt), math.sin(t.eye_tilt)
    x, y = cos * x + sin * y, cos * y - sin * x
    arcs = []
    for height, side in ((t.eye_opening, 1.0), (0.62 * t.eye_opening, -1.0)):
        radius = (t.eye_width**2 + height**2) / (2.0 * height)
        below = y + side * (radius - height)
        arcs.append(torch.sqrt(x * x + below * below + 1e-12) - radius)
    return torch.maximum(*arcs)


def add_lids(t: Traits, a: Anatomy, right: Points, skin: Scalars) -> Scalars:
    """The lids over the eyeball, their crease, and the gap that shows the eye."""
    x, y, z = eye_centre(a)
    lid = sphere(right, (x, y, z), EYEBALL_RADIUS + LID_THICKNESS)
    skin = smooth_union(skin, lid, 0.010)
    gap = smooth_intersection(lid_gap(t, a, right), (z + 0.006) - right.z, 0.004)
    gap = smooth_intersection(gap, -(skin + 0.0120), 0.004)
    return smooth_difference(skin, gap, 0.0035)


def add_nose(t: Traits, a: Anatomy, right: Points, skin: Scalars) -> Scalars:
    _, y, z = a.nose_tip
    thin = bridge_radius(t)
    depth = 0.5 * t.nose_projection
    wall = capsule(
        right, (0.0, a.nose_root[1], a.nose_root[2] - 0.010), (0.0, y + 0.006, z - depth - 0.012), thin, 0.017
    )
    bridge = capsule(right, a.nose_root, (0.0, y + 0.010, z - 0.012), thin, t.nose_tip * 0.85)
    tip = sphere(right, (0.0, y, z - t.nose_tip), t.nose_tip)
    wing = ellipsoid(right, (t.nose_width, y - 0.007, z - 0.030), (0.0115, 0.0115, 0.0170))
    nose = smooth_union(smooth_union(smooth_union(bridge, wall, 0.012), tip, 0.012), wing, 0.014)
    skin = smooth_union(skin, nose, 0.022)
    nostril = ellipsoid(right, (t.nose_width * 0.52, y - 0.0175, z - 0.0215), (0.0052, 0.0060, 0.0080))
    return smooth_difference(skin, nostril, 0.006)


def bridge_radius(t: Traits) -> float:
    return 0.009 + 0.12 * t.nose_width


def mouth_line(t: Traits, a: Anatomy, right: Points) -> Scalars:
    """Height above the line between the lips, which is the upper lip's edge where the mouth is open."""
    x2 = right.x * right.x
    return right.y - (a.mouth[1] + t.smile * x2)


def lip_gap(t: Traits, right: Points) -> Scalars:
    """How far the lips stand apart: most in the middle, nothing at the corners."""
    along = right.x * (1.0 / (t.mouth_width * 0.97))
    return mouth_gap(t) * (1.0 - along * along).clamp(min=0.0)


def lips(t: Traits, a: Anatomy, right: Points, line: Scalars, gap: Scalars) -> tuple[Scalars, Scalars]:
    """Upper and lower lip as solids, bent with the smile."""
    z, full, half = a.mouth[2], t.lip_fullness, t.mouth_width
    above, below = Points(right.x, line, right.z), Points(right.x, line + gap, right.z)
    upper = ellipsoid(above, (half * 0.30, full * 0.50, z - 0.003), (half * 0.66, full * 0.72, 0.0065 + full * 0.45))
    lower = ellipsoid(below, (0.0, -full * 0.62, z - 0.004), (half * 0.84, full * 0.80, 0.0080 + full * 0.50))
    return upper, lower


def add_mouth(t: Traits, a: Anatomy, right: Points, skin: Scalars) -> Scalars:
    """Lips, and the groove between them, which an open mouth widens and deepens."""
    line, gap = mouth_line(t, a, right), lip_gap(t, right)
    upper, lower = lips(t, a, right, line, gap)
    skin = smooth_union(skin, smooth_union(upper, lower, 0.004), 0.010)
    depth = (right.z - (a.mouth[2] + a.mouth_corner[2]) / 2.0).abs() - 0.030
    middle = line + 0.5 * gap
    groove = torch.sqrt(middle * middle + 1e-8) - 0.0016 - 0.5 * gap
    groove = smooth_intersection(groove, right.x - t.mouth_width, 0.006)
    groove = smooth_intersection(groove, depth, 0.004)
    floor = -(skin + 0.006 + 0.35 * mouth_gap(t))
    return smooth_difference(skin, smooth_intersection(groove, floor, 0.004), 0.004)


def ear(t: Traits, a: Anatomy, right: Points) -> Scalars:
    """An ear that leans out by `ear_flare`, with its hollow and lobe; pressed flat under long hair and scarves."""
    x0, flare = _ear_fold(t, a)
    cos, sin = math.cos(flare), math.sin(flare)
    x, y, z = right.x - x0, right.y - a.ear[1], right.z - a.ear[2]
    local = Points(cos * x + sin * z, y, cos * z - sin * x)
    size = t.ear_size
    shell = ellipsoid(local, (0.006, 0.004, -size * 0.50), (0.0135, size, size * 0.66))
    hollow = ellipsoid(local, (0.021, 0.008, -size * 0.42), (0.0130, size * 0.62, size * 0.36))
    lobe = ellipsoid(local, (0.006, -size * 0.78, -size * 0.24), (0.0095, size * 0.32, size * 0.28))
    return smooth_union(smooth_difference(shell, hollow, 0.010), lobe, 0.014)


def ear_place(t: Traits, a: Anatomy, place: Triple) -> Triple:
    """A place of the right ear's own frame (x out of the ear, z along it) in the head's."""
    x0, flare = _ear_fold(t, a)
    cos, sin = math.cos(flare), math.sin(flare)
    return x0 + cos * place[0] - sin * place[2], a.ear[1] + place[1], a.ear[2] + sin * place[0] + cos * place[2]


def _ear_fold(t: Traits, a: Anatomy) -> tuple[float, float]:
    """Where the ear is fixed (x) and the angle by which it leans out."""
    flat = max(switch(loose_length(t), 0.0, 0.2), switch(scarf(t), 0.0, 0.4))
    return a.ear[0] - 0.004 - 0.030 * flat, t.ear_flare * (1.0 - 0.9 * flat)
