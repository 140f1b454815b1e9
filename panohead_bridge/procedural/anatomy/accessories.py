"""What sits at the ears and eyes: glasses and earrings."""

import torch

from spinmeround.panohead_bridge.procedural.amounts import earrings, glasses
from spinmeround.panohead_bridge.procedural.anatomy.features import bridge_radius, ear_place
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, Triple, capsule, smooth_union
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy
from spinmeround.panohead_bridge.procedural.traits import Traits, switch


def frames(t: Traits, a: Anatomy, right: Points) -> Scalars:
    """Glasses: a rim round each eye (round to square by `glasses_shape`), bridge and temples."""
    rim = 0.0062 * glasses(t) - 0.001 * (1.0 - glasses(t))
    half_width, half_height = 0.036 + 0.004 * t.glasses_shape, 0.034 - 0.010 * t.glasses_shape
    round_off = half_height * (0.98 - 0.55 * t.glasses_shape)
    front = max(a.eye[2] + 0.019, a.nose_root[2] + bridge_radius(t) + 0.006)
    centre = max(a.eye[0], half_width + 0.013)
    swept = right.z - (front - 1.6 * (right.x - 0.02).clamp(min=0.0) ** 2)
    dx = (right.x - centre).abs() - (half_width - round_off)
    dy = (right.y - a.eye[1] + 0.004).abs() - (half_height - round_off)
    outside = torch.sqrt(dx.clamp(min=0.0) ** 2 + dy.clamp(min=0.0) ** 2 + 1e-12)
    outline = outside + torch.maximum(dx, dy).clamp(max=0.0) - round_off
    ring = torch.sqrt(outline * outline + swept * swept + 1e-12) - rim
    bridge_x = centre - half_width
    bridge = capsule(right, (0.0, a.eye[1] + 0.010, front), (bridge_x, a.eye[1] + 0.005, front), rim, rim)
    hinge_x = centre + half_width
    hinge = (hinge_x, a.eye[1] + 0.004, front - 1.6 * (hinge_x - 0.02) ** 2)
    temple = capsule(right, hinge, (a.ear[0] + 0.008, a.ear[1] + 0.022, a.ear[2] - 0.012), rim, rim)
    return smooth_union(smooth_union(ring, bridge, 0.004), temple, 0.004)


def earring(t: Traits, a: Anatomy, p: Points, right: Points) -> Scalars:
    """A stud at each lobe that has one, or a hoop through it by `earring_shape`."""
    left_size, right_size = earrings(t)
    size = left_size + (right_size - left_size) * (p.x > 0.0)
    x, y, z = lobe(t, a)
    hoop = switch(t.earring_shape, 0.35, 0.75)
    radius, wire = 0.016 * hoop, 0.0075 - 0.0038 * hoop
    dx, dy, dz = right.x - x, right.y - (y - radius), right.z - z
    across = torch.sqrt(dy * dy + dz * dz + 1e-10) - radius * size
    return torch.sqrt(across * across + dx * dx + 1e-12) - (wire * size - 0.004 * (1.0 - size))


def lobe(t: Traits, a: Anatomy) -> Triple:
    """The outer side of the right ear's lobe, where an earring is fixed."""
    return ear_place(t, a, (0.0125, -0.92 * t.ear_size, -0.24 * t.ear_size))
