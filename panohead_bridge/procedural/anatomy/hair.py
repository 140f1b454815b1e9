"""Hair as a solid shell on the skullcap: short, long, tied, curly, with a fringe or none, or bald.

Every style is reached smoothly: hair grows out of the skull, never pops up.
"""

import math

import torch

from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    capsule,
    ellipsoid,
    elliptic_cylinder,
    smooth_difference,
    smooth_intersection,
    smooth_union,
    smoothstep,
    sphere,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy
from spinmeround.panohead_bridge.procedural.traits import Traits, switch


def baldness(t: Traits) -> float:
    """Baldness of the crown, 0 to 1."""
    return switch(t.baldness, 0.48, 0.98)


def thinning(t: Traits) -> float:
    """How far hair is shortened before it disappears: long hair fades out long before the crown is bald."""
    return switch(t.baldness, 0.20, 0.94)


def bald_sides(t: Traits) -> float:
    """How far the sides and the nape are cropped too; until then a horseshoe of hair remains."""
    return switch(t.baldness, 0.74, 0.99)


def tied_amount(t: Traits) -> float:
    return switch(t.tied, 0.46, 0.92) * (1.0 - baldness(t))


def loose_length(t: Traits) -> float:
    """Length of loose hair: 0 is short, 1 is past the shoulders."""
    return switch(t.hair_length, 0.24, 0.90) * (1.0 - tied_amount(t)) * (1.0 - thinning(t))


def curl(t: Traits) -> float:
    return switch(t.hair_curl, 0.48, 0.92)


def fringe_amount(t: Traits) -> float:
    return switch(t.fringe, 0.40, 0.94) * (1.0 - thinning(t)) * (1.0 - 0.6 * tied_amount(t))


def thickness(t: Traits, p: Points) -> Scalars:
    """Thickness of hair over the skullcap: more on top and in front, swept by the parting.

    Baldness spreads from the brow over the crown, and hair thins towards its edge.
    """
    base = 0.010 + 0.012 * t.hair_volume + 0.034 * curl(t) * t.hair_volume
    top = (0.004 + 0.022 * t.hair_volume * (1.0 - tied_amount(t))) * smoothstep(p.y, 0.06, 0.20)
    quiff = 0.016 * t.hair_volume * (1.0 - fringe_amount(t)) * smoothstep(p.z, 0.00, 0.13)
    sweep = 1.0 + 0.5 * t.parting * torch.tanh(p.x * 12.0)
    amount = (base + (top + quiff * smoothstep(p.y, 0.08, 0.16)) * sweep) * (1.0 - 0.45 * tied_amount(t))
    amount = amount * (1.0 - 0.4 * thinning(t))
    gone = baldness(t)
    if gone == 0.0:
        return amount
    crown = min(4.0 * gone, 1.0) * smoothstep(_past_hairline(t, p), 0.0, 0.060 + 0.070 * (1.0 - gone))
    cropped = bald_sides(t)
    return amount * (1.0 - 0.75 * sparseness(t, p)) * (1.0 - 0.9 * cropped) - 0.070 * crown - 0.008 * cropped


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


def face_opening(t: Traits, p: Points) -> Scalars:
    """The solid that keeps the face clear of hair; its upper rim is the hairline."""
    lowered = fringe_amount(t)
    hairline = t.hairline - lowered * 0.062
    width = t.face_width + 0.006 - 0.010 * loose_length(t)
    opening = ellipsoid(p, (0.018 * t.parting * (1.0 - lowered), hairline - 0.145, 0.160), (width, 0.148, 0.150))
    strands = torch.sin(p.x * 96.0 + 3.0 * t.parting) + 0.6 * torch.sin(p.x * 171.0 + 1.0)
    return opening + (0.0008 + 0.0016 * lowered) * strands


def short_hair(t: Traits, a: Anatomy, p: Points, right: Points, cap: Scalars) -> Scalars:
    shell = cap - thickness(t, p) + waves(t, p) - (0.0006 + 0.0018 * t.hair_volume) * locks(t, p)
    shell = smooth_difference(shell, face_opening(t, p), 0.014)
    nape = -0.104 + 0.02 * t.hair_volume
    slope = 0.62
    lower = (a.ear[1] + 0.000 - (right.y - slope * (right.z - 0.045))) / math.hypot(1.0, slope)
    lower = smooth_intersection(lower, nape - right.y, 0.02) if loose_length(t) < 1.0 else lower
    shell = smooth_intersection(shell, lower, 0.016)
    notch = t.ear_size * 0.86 - 0.060 * loose_length(t)
    behind_ear = sphere(right, (a.ear[0] + 0.012, a.ear[1] - 0.004, a.ear[2] - 0.016), notch)
    return smooth_difference(shell, behind_ear, 0.012)


def long_hair(t: Traits, p: Points, right: Points) -> Scalars:
    """The curtain of loose hair behind and next to the face, down to its length."""
    length = loose_length(t)
    end = -0.02 - 0.34 * length + 0.010 * locks(t, p)
    flare = 1.0 + 0.10 * t.hair_volume * smoothstep(right.y, 0.02, -0.25) - 0.10 * smoothstep(right.y, -0.05, -0.19)
    volume = 0.014 + 0.018 * t.hair_volume + 0.020 * curl(t)
    grown = switch(length, 0.0, 0.25)
    widths = (t.cranium_width - 0.014 + volume * grown, t.cranium_length - 0.016 + volume * grown)
    wave = (0.003 + 0.006 * switch(t.hair_curl, 0.30, 0.62)) * torch.sin(p.y * 38.0 + 5.0 * t.parting)
    column = Points(right.x / flare + wave, right.y, right.z / flare)
    curtain = elliptic_cylinder(column, (0.0, -0.036), widths) + waves(t, p) * 1.3 - 0.0020 * locks(t, p)
    curtain = smooth_intersection(curtain, right.y - 0.060, 0.11)
    curtain = smooth_intersection(curtain, end - right.y, 0.050)
    opening = ellipsoid(right, (0.0, -0.130, 0.140), (t.face_width + 0.004, 0.270, 0.142))
    return smooth_difference(curtain, opening, 0.020)


def tied_hair(t: Traits, p: Points) -> Scalars:
    """A bun, from the nape to the crown by `tie_height`, or a tail where the hair is long."""
    amount = tied_amount(t)
    angle = -0.15 + 1.25 * t.tie_height
    reach_y, reach_z = 0.070 + t.cranium_height * math.sin(angle), -0.022 - t.cranium_length * math.cos(angle)
    radius = (0.026 + 0.020 * t.hair_volume) * amount * (2.0 - amount) - 0.006 * (1.0 - amount)
    out = 0.018 * amount
    centre = (0.0, reach_y + out * math.sin(angle), reach_z - out * math.cos(angle))
    bun = sphere(p, centre, radius) + waves(t, p)
    tail = switch(t.hair_length, 0.35, 0.80) * switch(amount, 0.2, 1.0)
    if tail == 0.0:
        return bun
    end = (0.0, centre[1] - 0.21 * tail, max(centre[2] - 0.030, -0.235))
    return smooth_union(bun, capsule(p, centre, end, radius * 0.85, radius * 0.55) + waves(t, p), 0.03)


def hair(t: Traits, a: Anatomy, p: Points, right: Points, cap: Scalars) -> Scalars:
    """All hair; positive everywhere on a bald head."""
    solid = short_hair(t, a, p, right, cap)
    if loose_length(t) > 0.0:
        solid = smooth_union(solid, long_hair(t, p, right), 0.030)
    if tied_amount(t) > 0.0:
        solid = smooth_union(solid, tied_hair(t, p), 0.018)
    return solid
