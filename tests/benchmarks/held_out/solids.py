"""Kinds that add matter or take it away."""

import math

import torch

from spinmeround.panohead_bridge.procedural.anatomy.appearance import noise
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    capsule,
    ellipsoid,
    smooth_intersection,
    smooth_union,
    smoothstep,
    sphere,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import bare_head, skullcap
from tests.benchmarks.held_out.frame import HAIR, SKIN, Parts, Solid, with_part


class MissingNeck(Solid):
    """A gap in the neck: the head floats above the shoulders."""

    def change(self, q: Points, parts: Parts) -> Parts:
        gap = (q.y + 0.222).abs() - 0.030 * self.strength
        return smooth_intersection(parts, -torch.maximum(gap, q.z - 0.20), 0.006)


class PimpledSurface(Solid):
    """Small bumps all over skin and hair."""

    def change(self, q: Points, parts: Parts) -> Parts:
        bumps = noise(q, 105.0).clamp(min=0.0) ** 2
        return (parts - 0.0085 * self.strength * bumps) * (1.0 / (1.0 + 0.5 * self.strength))


class RippledFace(Solid):
    """Rings around the nose, as of a stone in water: the left half mirrors the right."""

    def change(self, q: Points, parts: Parts) -> Parts:
        _, y, _ = self.head.anatomy.nose_tip
        away = torch.sqrt(q.x**2 + (q.y - y) ** 2 + 1e-9)
        wave = torch.sin(away * 230.0) * smoothstep(q.z, 0.02, 0.07) * smoothstep(away, 0.16, 0.08)
        return (parts + 0.0038 * self.strength * wave) * (1.0 / (1.0 + 0.5 * self.strength))


class MidlineSeam(Solid):
    """A furrow runs down the middle of the face, from hairline to chin."""

    def change(self, q: Points, parts: Parts) -> Parts:
        _, _, z = self.head.anatomy.mouth
        wide, deep = 0.0035 + 0.0075 * self.strength, 0.012 + 0.030 * self.strength
        furrow = ellipsoid(q, (0.0, -0.03, z + 0.012), (wide, 0.165, deep))
        return smooth_intersection(parts, -furrow, 0.006)


class PerforatedSide(Solid):
    """One side of the head is a sieve."""

    def prepare(self) -> None:
        angle = self.side * float(self.rng.uniform(1.4, 2.6))
        self.place = (0.14 * math.sin(angle), 0.05, 0.14 * math.cos(angle) - 0.02)

    def change(self, q: Points, parts: Parts) -> Parts:
        pattern = torch.sin(q.x * 190.0) * torch.sin(q.y * 190.0) * torch.sin(q.z * 190.0 + 0.8)
        pattern = pattern.abs() - 0.42 + 0.22 * self.strength
        patch = sphere(q, self.place, 0.045 + 0.055 * self.strength)
        holes = torch.maximum(-pattern * 0.008, patch)
        return smooth_intersection(parts, -holes, 0.002)


class CrownFin(Solid):
    """A thin fin stands on the midline of the crown."""

    def change(self, q: Points, parts: Parts) -> Parts:
        high = self.head.traits.cranium_height
        fin = ellipsoid(q, (0.0, 0.070 + high, -0.03), (0.006 + 0.004 * self.strength, 0.075 * self.strength, 0.100))
        return with_part(parts, HAIR, smooth_union(parts[HAIR], fin, 0.008))


class StrayStrand(Solid):
    """A strand of hair floats beside the head."""

    def change(self, q: Points, parts: Parts) -> Parts:
        x, radius = self.side * (0.150 + 0.030 * self.strength), 0.003 + 0.009 * self.strength
        upper = capsule(q, (x, 0.060, 0.02), (x * 1.12, -0.04, 0.05), 0.4 * radius, radius)
        lower = capsule(q, (x * 1.12, -0.04, 0.05), (x * 1.02, -0.150, 0.03), radius, 0.3 * radius)
        strand = smooth_union(upper, lower, 0.01) + 0.0015 * torch.sin(q.y * 160.0)
        return with_part(parts, HAIR, torch.minimum(parts[HAIR], strand))


class NapeLump(Solid):
    """A lump of flesh at the nape."""

    def change(self, q: Points, parts: Parts) -> Parts:
        size = 0.030 + 0.040 * self.strength
        lump = ellipsoid(q, (0.0, -0.130, -0.115 - 0.035 * self.strength), (size * 1.2, size, size))
        return with_part(parts, SKIN, smooth_union(parts[SKIN], lump, 0.030))


class FacelessFace(Solid):
    """The face is smoothed over: eyes, nose and mouth sink below a bare surface."""

    def change(self, q: Points, parts: Parts) -> Parts:
        t = self.head.traits
        bare = bare_head(t, q.mirrored(), skullcap(t, q)) - (0.030 * self.strength - 0.008)
        bare = torch.maximum(bare, (0.02 - q.z) * 1.0)
        bare = torch.maximum(bare, ellipsoid(q, (0.0, -0.05, 0.11), (0.090, 0.120, 0.110)))
        return with_part(parts, SKIN, smooth_union(parts[SKIN], bare, 0.012))
