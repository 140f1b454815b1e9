"""The painted regions of the skin: lips, brows and beard have a colour, but no solid of their own.

Each function takes points of `Head.face` (mirrored, in the head's own frame) and gives a soft cover of 0 to 1.
"""

import torch

from spinmeround.panohead_bridge.procedural.amounts import mouth_gap
from spinmeround.panohead_bridge.procedural.anatomy import features
from spinmeround.panohead_bridge.procedural.anatomy.head import PARTS, Head
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, gaussian1, smoothstep

LABELS = (*PARTS, "lips", "brows", "beard", "mouth")
"""Regions of a head; a point's label is an index in this tuple. The parts come first."""

BACKGROUND = -1
"""Label of a pixel whose centre shows no head."""


def lip_cover(head: Head, right: Points) -> Scalars:
    t, a = head.traits, head.anatomy
    line, gap = features.mouth_line(t, a, right), features.lip_gap(t, right)
    along = right.x / (t.mouth_width * 1.02)
    arch = (1.0 - along * along).clamp(min=0.0)
    bow = 1.0 - 0.28 * gaussian1(right.x, 0.007)
    top, bottom = 1.12 * t.lip_fullness * arch.sqrt() * bow * (0.55 + 0.45 * arch), -1.32 * t.lip_fullness * arch
    inside = smoothstep(line - top, 0.0014, -0.0010) * smoothstep(bottom - line - gap, 0.0014, -0.0010)
    return inside * smoothstep(along, 1.0, 0.93) * (1.0 - mouth_cover(head, right))


def mouth_cover(head: Head, right: Points) -> Scalars:
    """The inside of an open mouth."""
    line, gap = features.mouth_line(head.traits, head.anatomy, right), features.lip_gap(head.traits, right)
    return smoothstep((line + 0.5 * gap).abs() - 0.5 * gap, -0.0008, -0.0026)


def brow_cover(head: Head, right: Points) -> Scalars:
    t, a = head.traits, head.anatomy
    along = (right.x - a.eye[0]) / 0.036
    tilt = t.brow_tilt - 0.26 * t.brow_raise
    ridge = a.brow_height + t.brow_arch * (1.0 - along * along) + tilt * 0.03 * along
    taper = t.brow_thickness * (1.0 - 0.55 * smoothstep(along, 0.1, 1.1))
    inside = smoothstep((right.y - ridge).abs() - taper, 0.0024, -0.0012)
    return inside * smoothstep(along.abs(), 1.08, 0.85)


def beard_cover(head: Head, right: Points) -> Scalars:
    """Where a beard grows on the lower face (0 to 1): jaw, chin and upper lip, clear of the lips."""
    t, a = head.traits, head.anatomy
    back = smoothstep(right.z, 0.105, 0.020)
    cheek_line = a.mouth[1] + 0.004 + 0.020 * t.beard_length + (a.ear[1] + 0.035 - a.mouth[1]) * back * back
    below = smoothstep(right.y - cheek_line, 0.016, -0.016)
    jaw_line = a.chin + 0.55 * (0.085 - right.z).clamp(min=0.0)
    throat = smoothstep(right.y - jaw_line, -0.026, -0.004) * smoothstep(right.z, -0.004 + a.ear[2], 0.014 + a.ear[2])
    line = features.mouth_line(t, a, right)
    middle, half = line + 0.5 * mouth_gap(t), 1.35 * t.lip_fullness + 0.001 + 0.5 * mouth_gap(t)
    around = (right.x / (t.mouth_width * 1.02)) ** 2 + (middle / half) ** 2
    upper_edge = 1.2 * t.lip_fullness + 0.015 - 0.22 * right.x
    moustache = smoothstep(line - upper_edge, 0.004, -0.003) * smoothstep(line, -0.004, 0.002)
    moustache = moustache * smoothstep(right.x / t.mouth_width, 1.25, 0.85) * smoothstep(right.z, 0.06, 0.08)
    philtrum = 1.0 - 0.5 * gaussian1(right.x, 0.004)
    return torch.maximum(below * throat, moustache * philtrum) * smoothstep(around, 0.80, 1.10)
