"""Hair as a solid shell on the skullcap: short, long, tied, curly, parted, with a fringe or none, or bald.

Every style is reached smoothly: hair grows out of the skull, never pops up.
"""

import math
from typing import NamedTuple

import torch

from spinmeround.panohead_bridge.procedural.amounts import (
    bald_sides,
    baldness,
    curl,
    fringe,
    loose_length,
    pressed,
    tail,
    thinning,
    tied,
)
from spinmeround.panohead_bridge.procedural.anatomy.headwear import covers, hair_outside
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    capsule,
    ellipsoid,
    elliptic_cylinder,
    gaussian1,
    smooth_difference,
    smooth_intersection,
    smooth_union,
    smoothstep,
    sphere,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy
from spinmeround.panohead_bridge.procedural.traits import Traits, switch


def thickness(t: Traits, p: Points) -> Scalars:
    """Thickness of hair over the skullcap: more on top and in front, swept by the parting.

    Baldness spreads from the brow over the crown, and hair thins towards its edge.
    """
    base = 0.010 + 0.012 * t.hair_volume + 0.034 * curl(t) * t.hair_volume
    top = (0.004 + 0.022 * t.hair_volume * (1.0 - tied(t))) * smoothstep(p.y, 0.06, 0.20)
    quiff = 0.016 * t.hair_volume * (1.0 - fringe(t)) * smoothstep(p.z, 0.00, 0.13)
    from_part = p.x - part_x(t)
    sweep = 1.0 + 0.55 * t.parting * torch.tanh(from_part * 14.0)
    amount = (base + (top + quiff * smoothstep(p.y, 0.08, 0.16)) * sweep) * (1.0 - 0.45 * tied(t))
    groove = gaussian1(from_part, 0.007) * smoothstep(p.y, 0.120, 0.165) * smoothstep(p.z, -0.10, -0.02)
    amount = amount * (1.0 - (0.30 * abs(t.parting) * (1.0 - curl(t))) * groove)
    amount = amount * ((1.0 - 0.4 * thinning(t)) * (1.0 - 0.62 * pressed(t)))
    gone = baldness(t)
    if gone == 0.0:
        return amount
    crown = min(4.0 * gone, 1.0) * smoothstep(_past_hairline(t, p), 0.0, 0.060 + 0.070 * (1.0 - gone))
    cropped = bald_sides(t)
    return amount * (1.0 - 0.75 * sparseness(t, p)) * (1.0 - 0.9 * cropped) - 0.070 * crown - 0.008 * cropped


def part_x(t: Traits) -> float:
    """Where the hair is parted, from one side of the crown to the other."""
    return -0.075 * t.parting


def sparseness(t: Traits, p: Points) -> Scalars:
    """Flatness of hair near the edge of a bald crown."""
    return min(4.0 * baldness(t), 1.0) * smoothstep(_past_hairline(t, p), -0.140, 0.020)


def _past_hairline(t: Traits, p: Points) -> Scalars:
    """Signed distance of a point to the bald side of the hairline, which recedes from the brow over the crown."""
    edge: Scalars = (
        -0.015 + 0.37 * (1.0 - baldness(t) ** 1.6) + 0.006 * torch.sin(9.0 * t.parting + 31.0 * p.x + 17.0 * p.z)
    )
    return p.y + 0.90 * (p.z - 0.05 + torch.sqrt((p.z + 0.05) ** 2 + 0.0025)) - edge


def waves(t: Traits, p: Points) -> Scalars:
    """Locks as smooth bumps a few hundredths wide; zero on straight hair's scale."""
    amount = 0.0004 + 0.0054 * curl(t)
    bumps = torch.sin(p.x * 62.0 + 1.5 * torch.sin(p.y * 23.0)) * torch.sin(p.y * 57.0 + 1.2 * torch.sin(p.z * 25.0))
    return amount * (bumps * torch.sin(p.z * 60.0 + 1.2 * torch.sin(p.x * 21.0)))


def locks(t: Traits, p: Points) -> Scalars:
    """Uneven ends: a few broad locks and some narrow ones, around the head."""
    out = torch.sqrt(p.x * p.x + (p.z + 0.03) ** 2 + 4e-4)
    x, z = p.x / out, (p.z + 0.03) / out
    broad = torch.sin(7.0 * x + 1.5 * torch.sin(4.0 * z + 1.0) + 4.0 * t.parting)
    return broad + 0.22 * torch.sin(15.0 * x - 1.5 * torch.sin(6.0 * z) + 2.0)


class Rough(NamedTuple):
    """The unevenness of hair at points: `waves` and `locks`."""

    waves: Scalars
    locks: Scalars


def face_opening(t: Traits, p: Points) -> Scalars:
    """The solid that keeps the face clear of hair; its upper rim is the hairline."""
    lowered = fringe(t)
    hairline = t.hairline - lowered * 0.062
    width = t.face_width + 0.006 - 0.010 * loose_length(t)
    swept = Points(p.x, p.y + (0.42 * lowered * t.fringe_sweep) * p.x, p.z)
    opening = ellipsoid(swept, (0.018 * t.parting * (1.0 - lowered), hairline - 0.145, 0.160), (width, 0.148, 0.150))
    strands = torch.sin(p.x * 96.0 + 3.0 * t.parting) + 0.6 * torch.sin(p.x * 171.0 + 1.0)
    return opening + (0.0008 + 0.0016 * lowered) * strands


def short_hair(t: Traits, a: Anatomy, p: Points, right: Points, cap: Scalars, rough: Rough) -> Scalars:
    shell = cap - thickness(t, p) + rough.waves - (0.0006 + 0.0018 * t.hair_volume) * rough.locks
    shell = smooth_difference(shell, face_opening(t, p), 0.014)
    nape = -0.104 + 0.02 * t.hair_volume
    slope = 0.62
    lower = (a.ear[1] + 0.000 - (right.y - slope * (right.z - 0.045))) / math.hypot(1.0, slope)
    lower = smooth_intersection(lower, nape - right.y, 0.02) if loose_length(t) < 1.0 else lower
    shell = smooth_intersection(shell, lower, 0.016)
    notch = t.ear_size * 0.86 - 0.060 * loose_length(t)
    behind_ear = sphere(right, (a.ear[0] + 0.012, a.ear[1] - 0.004, a.ear[2] - 0.016), notch)
    return smooth_difference(shell, behind_ear, 0.012)


def long_hair(t: Traits, p: Points, right: Points, rough: Rough) -> Scalars:
    """The curtain of loose hair behind and next to the face, down to its length."""
    length = loose_length(t)
    end = -0.02 - 0.34 * length + 0.010 * rough.locks
    flare = 1.0 + 0.10 * t.hair_volume * smoothstep(right.y, 0.02, -0.25) - 0.10 * smoothstep(right.y, -0.05, -0.19)
    volume = 0.014 + 0.018 * t.hair_volume + 0.020 * curl(t)
    grown = switch(length, 0.0, 0.25)
    widths = (t.cranium_width - 0.014 + volume * grown, t.cranium_length - 0.016 + volume * grown)
    wave = (0.003 + 0.006 * switch(t.hair_curl, 0.30, 0.62)) * torch.sin(p.y * 38.0 + 5.0 * t.parting)
    column = Points(right.x / flare + wave, right.y, right.z / flare)
    curtain = elliptic_cylinder(column, (0.0, -0.036), widths) + rough.waves * 1.3 - 0.0020 * rough.locks
    curtain = smooth_intersection(curtain, right.y - 0.060, 0.11)
    curtain = smooth_intersection(curtain, end - right.y, 0.050)
    opening = ellipsoid(right, (0.0, -0.130, 0.140), (t.face_width + 0.004, 0.270, 0.142))
    return smooth_difference(curtain, opening, 0.020)


def tied_hair(t: Traits, p: Points, rough: Rough) -> Scalars:
    """A bun, from the nape to the crown by `tie_height` and off centre by `tie_side`, or a tail of long hair."""
    amount = tied(t)
    up, round_ = -0.15 + 1.25 * t.tie_height, 1.0 * t.tie_side
    outward = (math.cos(up) * math.sin(round_), math.sin(up), -math.cos(up) * math.cos(round_))
    radii, out = (t.cranium_width, t.cranium_height, t.cranium_length), 0.018 * amount
    radius = (0.026 + 0.020 * t.hair_volume) * amount * (2.0 - amount) - 0.006 * (1.0 - amount)
    x, y, z = ((r + out) * d + c for r, d, c in zip(radii, outward, (0.0, 0.070, -0.022), strict=True))
    bun = sphere(p, (x, y, z), radius) + rough.waves
    if tail(t) == 0.0:
        return bun
    end = (1.25 * x, y - 0.23 * tail(t), max(z + 0.010, -0.215))
    return smooth_union(bun, capsule(p, (x, y, z), end, radius * 0.90, radius * 0.75) + rough.waves, 0.03)


def hair(t: Traits, a: Anatomy, p: Points, right: Points, cap: Scalars) -> Scalars:
    """All hair; positive everywhere on a bald head."""
    rough = Rough(waves(t, p), locks(t, p))
    solid = short_hair(t, a, p, right, cap, rough)
    if loose_length(t) > 0.0:
        solid = smooth_union(solid, long_hair(t, p, right, rough), 0.030)
    if tied(t) > 0.0:
        solid = smooth_union(solid, tied_hair(t, p, rough), 0.018)
    return hair_outside(t, p, solid) if covers(t) else solid
