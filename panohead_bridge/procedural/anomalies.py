"""Defects of no particular kind: something random happens in a random region of a head.

What an inspector network learns from, so that it does not learn a list of defects. An anomaly is one to three changes.
Each has a region (an ellipsoid of random place, size, direction and edge, on one side, on both or in patches) and does
there one of a few things that can happen to a shape and its colour: shift, scale, twist, wave, add, remove, roughen, copy
from elsewhere, take the colour of elsewhere, recolour. `strength` scales how much.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.head import PARTS
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Triple,
    capsule,
    ellipsoid,
    smooth_intersection,
    smooth_union,
    smoothstep,
)
from spinmeround.panohead_bridge.procedural.defects import Damage, Distance, Parts, Source, along, on_surface
from spinmeround.panohead_bridge.procedural.options import Defect

MATERIALS = tuple(PARTS.index(name) for name in ("skin", "hair", "headwear", "garment"))
LOOSEST = 1.7
"""Largest slope that a warp is assumed to have; distances are divided by it."""


@dataclass(frozen=True)
class Waves:
    """A smooth random function of place with values of about -1 to 1: sines of random directions."""

    directions: Tensor
    phases: Tensor

    @staticmethod
    def of(rng: np.random.Generator, frequency: float, count: int = 4) -> "Waves":
        """`frequency` is in radians per world unit."""
        directions = rng.standard_normal((count, 3))
        directions *= frequency * rng.uniform(0.6, 1.4, (count, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
        phases = rng.uniform(0.0, 2.0 * math.pi, (count, 1))
        return Waves(torch.tensor(directions, dtype=torch.float32), torch.tensor(phases, dtype=torch.float32))

    def at(self, p: Points) -> Tensor:
        total = torch.zeros_like(p.x)
        for (x, y, z), phase in zip(self.directions.tolist(), self.phases.flatten().tolist(), strict=True):
            total = total + torch.sin(x * p.x + y * p.y + z * p.z + phase)
        return total * math.sqrt(2.0 / len(self.directions)) * 0.6


@dataclass(frozen=True)
class Place:
    """Where a change happens: an ellipsoid with an edge, perhaps on both sides of the head, perhaps in patches."""

    centre: Triple
    axes: Tensor
    edge: float
    mirrored: bool = False
    patches: Waves | None = None

    @staticmethod
    def of(rng: np.random.Generator, distance: Distance, sizes: tuple[float, float]) -> "Place":
        """A place on the surface; `sizes` bound the radii of its ellipsoid, in world units."""
        _, centre = on_surface(rng, distance)
        mirrored = bool(rng.uniform() < 0.3)
        if not mirrored and rng.uniform() < 0.3:
            centre = (0.0, centre[1], centre[2])
        radius = math.exp(rng.uniform(math.log(sizes[0]), math.log(sizes[1])))
        radii = radius * np.exp(rng.uniform(-0.5, 0.5, 3))
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0] if rng.uniform() < 0.5 else np.eye(3)
        axes = torch.tensor(turn / radii[:, None], dtype=torch.float32)
        patches = Waves.of(rng, float(rng.uniform(2.0, 5.0)) / radius) if rng.uniform() < 0.2 else None
        return Place(centre, axes, float(rng.uniform(0.05, 1.0)), mirrored, patches)

    @property
    def radius(self) -> float:
        return float(1.0 / self.axes.norm(dim=1).max())

    def folded(self, p: Points) -> Points:
        """The points on the side of the centre."""
        if not self.mirrored:
            return p
        return Points(torch.copysign(p.x, torch.full_like(p.x, self.centre[0])), p.y, p.z)

    def weight(self, p: Points) -> Tensor:
        """1 in the middle, 0 outside."""
        x, y, z = self.folded(p).shifted(self.centre)
        squares = torch.zeros_like(x)
        for a, b, c in self.axes.tolist():
            squares = squares + (a * x + b * y + c * z) ** 2
        inside = smoothstep(torch.sqrt(squares + 1e-9), 1.0, 1.0 - self.edge)
        return inside if self.patches is None else inside * smoothstep(self.patches.at(p), 0.0, 0.5)


class Change:
    """What happens at a place; every kind overrides what it needs."""

    sizes = (0.03, 0.22)
    """Bounds of the radius of the place, in world units."""

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        self.place = Place.of(rng, distance, self.sizes)

    def warped(self, p: Points) -> Points:
        """The point of the head without the change that `p` shows."""
        return p

    def copied(self, p: Points) -> Source | None:
        """A second copy of the head, grown into the first."""
        return None

    def carve(self, p: Points, parts: Parts) -> Parts:
        return parts

    def gain(self, p: Points) -> Tensor:
        return torch.ones(3, 1)

    def coloured(self, p: Points) -> tuple[Tensor, Points] | None:
        """Where the colour comes from another place, and from which."""
        return None


class Shift(Change):
    sizes = (0.05, 0.35)

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        way = rng.standard_normal(3)
        self.offset = ((0.1 + 0.6 * strength) * self.place.radius * way / np.linalg.norm(way)).tolist()

    def warped(self, p: Points) -> Points:
        w = self.place.weight(p)
        return Points(*(value - w * by for value, by in zip(p, self.offset, strict=True)))


class Scale(Change):
    """Thicker or thinner along each axis about the place's centre."""

    sizes = (0.05, 0.35)

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        signs = rng.choice([-1.0, 0.0, 1.0], 3, p=[0.4, 0.25, 0.35]) if rng.uniform() < 0.7 else -np.ones(3)
        if not signs.any():
            signs[0] = -1.0
        self.inside = bool(rng.uniform() < 0.5)
        self.factors = np.exp(-signs * (0.15 + 0.75 * strength)).tolist()

    def warped(self, p: Points) -> Points:
        w = self.place.weight(p)
        x0, y0, z0 = self.place.centre
        middle = (0.0 if self.inside else x0, y0, -0.02 if self.inside else z0)
        return Points(*(v + w * (f - 1.0) * (v - m) for v, f, m in zip(p, self.factors, middle, strict=True)))


class Twist(Change):
    sizes = (0.05, 0.35)

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        self.angle = float(rng.choice([-1.0, 1.0])) * (0.15 + 0.85 * strength)
        self.axis = int(rng.integers(0, 3))

    def warped(self, p: Points) -> Points:
        turn = self.place.weight(p) * self.angle
        local = list(p.shifted(self.place.centre))
        a, b = [index for index in range(3) if index != self.axis]
        cos, sin = torch.cos(turn), torch.sin(turn)
        local[a], local[b] = cos * local[a] - sin * local[b], sin * local[a] + cos * local[b]
        return Points(*(value + c for value, c in zip(local, self.place.centre, strict=True)))


class Wave(Change):
    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        frequency = math.exp(rng.uniform(math.log(15.0), math.log(150.0)))
        self.waves = [Waves.of(rng, frequency) for _ in range(3)]
        self.size = (0.25 + 0.9 * strength) / frequency

    def warped(self, p: Points) -> Points:
        w = self.place.weight(p) * self.size
        return Points(*(value + w * wave.at(p) for value, wave in zip(p, self.waves, strict=True)))


class Solids(Change):
    """Solids added to the head, or removed from it."""

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        self.removes = bool(rng.uniform() < 0.45)
        self.part = int(rng.choice(MATERIALS))
        self.rounding = 0.001 + 0.03 * float(rng.uniform()) ** 2
        self.mirrored = bool(rng.uniform() < 0.3)
        count = int(rng.integers(1, 4)) if rng.uniform() < 0.7 else int(rng.integers(4, 12))
        size = (0.008 + 0.05 * strength) * math.exp(rng.uniform(-0.5, 0.7)) / math.sqrt(count) ** 0.7
        self.solids = [self._solid(rng, size, distance) for _ in range(count)]

    def _solid(self, rng: np.random.Generator, size: float, distance: Distance) -> Callable[[Points], Tensor]:
        outward, surface = on_surface(rng, distance)
        if rng.uniform() < 0.15:
            surface = (0.0, surface[1], surface[2])
        lift = float(rng.uniform(-0.5, 2.5 if rng.uniform() < 0.3 else 0.6)) * size
        centre = along(surface, outward, -abs(lift) if self.removes else lift)
        if rng.uniform() < 0.35:
            way = rng.standard_normal(3)
            length = size * float(rng.uniform(1.0, 5.0))
            end = along(centre, tuple((way / np.linalg.norm(way)).tolist()), length)
            thin = size * float(rng.uniform(0.2, 0.8))
            return lambda p: capsule(p, centre, end, thin, thin * 0.6)
        radii: Triple = tuple((size * np.exp(rng.uniform(-0.7, 0.7, 3))).tolist())
        return lambda p: ellipsoid(p, centre, radii)

    def carve(self, p: Points, parts: Parts) -> Parts:
        q = p.mirrored() if self.mirrored else p
        solid = torch.stack([each(q) for each in self.solids]).amin(dim=0)
        if self.removes:
            return smooth_intersection(parts, -solid, self.rounding)
        grown = smooth_union(parts[self.part], solid, self.rounding)
        return torch.cat([parts[: self.part], grown[None], parts[self.part + 1 :]])


class Roughen(Change):
    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        frequency = math.exp(rng.uniform(math.log(60.0), math.log(600.0)))
        self.waves = Waves.of(rng, frequency, count=10)
        self.size = (0.2 + 0.8 * strength) / frequency
        self.bumps = bool(rng.uniform() < 0.5)

    def carve(self, p: Points, parts: Parts) -> Parts:
        wave = self.waves.at(p)
        wave = smoothstep(wave, 0.3, 1.0) * 1.5 if self.bumps else wave
        return parts - self.place.weight(p) * self.size * wave


class Copy(Change):
    """A part of the head once more, elsewhere: moved, turned, scaled or mirrored."""

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        _, self.origin = on_surface(rng, distance, face=bool(rng.uniform() < 0.5))
        size = (0.03 + 0.09 * strength) * math.exp(rng.uniform(-0.3, 0.3))
        self.radii: Triple = tuple((size * np.exp(rng.uniform(-0.4, 0.4, 3))).tolist())
        start, end = (math.atan2(c[0], c[2] + 0.02) for c in (self.origin, self.place.centre))
        self.turn = end - start + (float(rng.normal(0.0, 0.3)) if rng.uniform() < 0.5 else 0.0)
        self.scale = math.exp(rng.uniform(-0.4, 0.4)) if rng.uniform() < 0.5 else 1.0
        self.sunk = float(rng.uniform(-0.01, 0.01))
        self.blend = 0.02 * float(rng.uniform())

    def origin_of(self, p: Points) -> Points:
        """The point of the part that `p` shows."""
        x, y, z = (value / self.scale for value in p.shifted(self.place.centre))
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        ox, oy, oz = self.origin
        return Points(cos * x - sin * z + ox, y + oy, sin * x + cos * z + oz)

    def copied(self, p: Points) -> Source:
        bound = ellipsoid(p, self.place.centre, self.radii)
        return Source(self.origin_of(p), self.scale, bound, 0.01 * self.blend + 1e-4)


class Colouring(Copy):
    """The colour of another place, without its shape."""

    def copied(self, p: Points) -> None:
        return None

    def coloured(self, p: Points) -> tuple[Tensor, Points]:
        return self.place.weight(p) > 0.5, self.origin_of(p)


class Recolour(Change):
    """Another colour, evenly or in a pattern."""

    def __init__(self, rng: np.random.Generator, strength: float, distance: Distance) -> None:
        super().__init__(rng, strength, distance)
        shares = rng.uniform(-1.0, 1.0, 3) if rng.uniform() < 0.6 else np.full(3, rng.choice([-1.0, 1.0]))
        self.change = ((0.08 + 0.75 * strength) * shares / np.abs(shares).max())[:, None]
        pattern = rng.uniform() < 0.5
        frequency = math.exp(rng.uniform(math.log(30.0), math.log(500.0)))
        count = 1 if rng.uniform() < 0.25 else 8
        self.waves = Waves.of(rng, frequency, count) if pattern else None

    def gain(self, p: Points) -> Tensor:
        weight = self.place.weight(p)
        if self.waves is not None:
            weight = weight * self.waves.at(p)
        return torch.exp(torch.tensor(self.change, dtype=torch.float32) * weight)


CHANGES: tuple[type[Change], ...] = (Shift, Scale, Twist, Wave, Solids, Roughen, Copy, Colouring, Recolour)
SHARES = (0.1, 0.14, 0.06, 0.08, 0.18, 0.12, 0.1, 0.08, 0.14)


class Anomaly(Damage):
    """One to three random changes of a head."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        count = 1 + int(rng.uniform() < 0.35) + int(rng.uniform() < 0.15)
        kinds = [CHANGES[index] for index in rng.choice(len(CHANGES), count, p=np.array(SHARES))]
        self.adopt([kind(rng, defect.strength, distance) for kind in kinds])

    def adopt(self, changes: list[Change]) -> None:
        """Make these the changes."""
        self.changes = changes
        self.blend = max((each.blend for each in changes if isinstance(each, Copy)), default=0.0)
        self.warps = any(type(each).warped is not Change.warped for each in changes)

    def sources(self, p: Points) -> list[Source]:
        q = p
        for change in self.changes:
            q = change.warped(q)
        copies = (change.copied(p) for change in self.changes)
        return [Source(q, 1.0 / LOOSEST if self.warps else 1.0), *(copy for copy in copies if copy is not None)]

    def carve(self, p: Points, parts: Parts) -> Parts:
        for change in self.changes:
            parts = change.carve(p, parts)
        return parts

    def gain(self, p: Points) -> Tensor:
        total = torch.ones(3, 1)
        for change in self.changes:
            total = total * change.gain(p)
        return total

    def coloured(self, p: Points) -> list[tuple[Tensor, Points]]:
        found = (change.coloured(p) for change in self.changes)
        return [each for each in found if each is not None]
