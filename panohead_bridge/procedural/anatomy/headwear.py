"""Hats and headscarves: cloth over the skullcap that grows from the crown down.

`Cover` measures how far a point lies below the cloth's edge. Hair is cut where cloth covers it. All functions take
points in the head's own frame and are used only on heads with headwear.
"""

import math

import torch

from spinmeround.panohead_bridge.procedural.amounts import brim, hat, scarf, visor
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    capsule,
    ellipsoid,
    smooth_difference,
    smooth_intersection,
    smooth_union,
    smoothstep,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy
from spinmeround.panohead_bridge.procedural.traits import Traits, switch

SLOPE = 0.40
"""A hat's edge falls by this much from the forehead towards the nape."""

BARE, DOWN = 0.180, 0.560
"""How far above a hat's edge cloth starts, and how far below it a full headscarf ends."""


def covers(t: Traits) -> bool:
    return hat(t) > 0.0 or scarf(t) > 0.0


def below_edge(t: Traits, p: Points) -> Scalars:
    """Signed distance to the part of the head that cloth covers; negative under cloth."""
    edge = (p.y - 0.062 - SLOPE * p.z) * (-1.0 / math.hypot(1.0, SLOPE))
    if hat(t) > 0.0:
        return edge + BARE * (1.0 - hat(t))
    return edge + BARE - (BARE + DOWN) * scarf(t)


def headwear(t: Traits, a: Anatomy, p: Points, right: Points, cap: Scalars, bare: Scalars) -> Scalars:
    """Cloth; `cap` and `bare` are the distances to skullcap and bare head."""
    edge = below_edge(t, p)
    return _hat(t, p, right, cap, edge) if hat(t) > 0.0 else _scarf(t, a, p, right, bare, edge)


def _hat(t: Traits, p: Points, right: Points, cap: Scalars, edge: Scalars) -> Scalars:
    amount, wide, long = hat(t), brim(t), visor(t)
    tall = (0.004 + 0.014 * max(wide, 1.0 - long) * amount) * smoothstep(p.y, 0.10, 0.22)
    fold = (0.006 * amount * (1.0 - max(wide, long))) * smoothstep(edge, -0.044, -0.038)
    crown = smooth_intersection(cap - (0.004 + 0.012 * amount) - tall - fold, edge, 0.006)
    if max(wide, long) == 0.0:
        return crown
    front = smoothstep(p.z, 0.02, 0.10)
    width = wide * 0.052 + long * 0.070 * front * smoothstep(right.x, 0.115, 0.060)
    droop = edge - cap.clamp(min=0.0) * (0.10 + 0.50 * front) + 0.010
    plate = droop.abs() - 0.0045 * max(wide, long)
    return smooth_union(crown, smooth_intersection(plate, cap - 0.010 - width, 0.004), 0.006)


def _scarf(t: Traits, a: Anatomy, p: Points, right: Points, bare: Scalars, edge: Scalars) -> Scalars:
    """Cloth over the head, round the face and down to the shoulders."""
    drape = capsule(right, (0.0, -0.080, -0.030), (0.0, -0.330, -0.050), 0.096, 0.150)
    folds = 0.0022 * torch.sin(p.y * 70.0 + 9.0 * p.z + 2.0 * torch.sin(p.x * 24.0)) * smoothstep(p.y, -0.06, -0.16)
    cloth = smooth_union(bare, drape, 0.060) - 0.016 - folds
    low, high = a.chin + 0.006, 0.104
    opening = ellipsoid(right, (0.0, 0.5 * (low + high), 0.150), (1.02 * t.face_width, 0.5 * (high - low), 0.130))
    return smooth_intersection(smooth_difference(cloth, opening, 0.012), edge, 0.010)


def hair_outside(t: Traits, p: Points, hair: Scalars) -> Scalars:
    """Hair without what cloth covers, and flat at the cloth's edge."""
    return smooth_intersection(hair, -0.004 - below_edge(t, p), 0.012)


def band(t: Traits, p: Points) -> Scalars:
    """Cover of the ribbon round a hat with a brim, 0 to 1."""
    edge = below_edge(t, p)
    return switch(brim(t), 0.2, 1.0) * smoothstep(edge, -0.010, -0.013) * smoothstep(edge, -0.040, -0.037)
