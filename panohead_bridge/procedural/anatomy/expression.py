"""Expressions that differ from side to side, as a shift of the points of the face.

Features are symmetric, and evaluated at points that are lowered where the expression raises the face. So surface,
colour and labels follow together. The shift is vertical and vanishes at the eyes and on the nose.
"""

import torch

from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, smoothstep
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy
from spinmeround.panohead_bridge.procedural.traits import Traits


def neutral(t: Traits, a: Anatomy, p: Points) -> Points:
    """Points of the face (head's frame) where a face of the same two sides has them."""
    return Points(p.x, p.y - raised(t, a, p), p.z)


def raised(t: Traits, a: Anatomy, p: Points) -> Scalars:
    """How far one corner of the mouth (and the other is lowered) and one brow are raised, in the head's unit."""
    corner = 3.6 * t.smirk * p.x * torch.sqrt(p.x * p.x + 1e-5)
    at_mouth = smoothstep((p.y - a.mouth[1]).abs(), 0.048, 0.020)
    side = 0.5 + 0.5 * torch.tanh(p.x * (80.0 if t.brow_side > 0.0 else -80.0))
    brow = 0.011 * abs(t.brow_side) * side * smoothstep(p.y - a.eye[1], 0.011, 0.022)
    return corner.clamp(-0.012, 0.012) * at_mouth + brow
