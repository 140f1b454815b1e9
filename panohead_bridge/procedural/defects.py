"""Labelled defects of heads, like those of real generators, to measure screening against.

A defect is a kind, a strength (0 barely visible, 1 gross) and a softness of its edges (0 sharp, 1 gradual). It is
drawn from the head's seed alone, not from its latent, so it can't be read off the latent. `Damage` is what a kind does
to a head: which points of the head without it a point shows (`sources`), what is added or cut (`carve`), and the
factor on the colour (`gain`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.head import PARTS, Sight
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Triple,
    capsule,
    ellipsoid,
    smooth_intersection,
    smooth_union,
    smoothstep,
    sphere,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import first_hit
from spinmeround.panohead_bridge.procedural.options import Defect

CENTRE: Triple = (0.0, 0.05, -0.03)
EDGE = 0.494
HAIR = PARTS.index("hair")

Parts = Float[Tensor, "part point"]
Distance = Callable[[Points], Tensor]


@dataclass(frozen=True)
class Source:
    """Where on the head without the damage a point lies, the factor that preserves distances, and a bound to the copy.

    `rounding` is the width over which the bound's edges are round.
    """

    points: Points
    scale: Tensor | float = 1.0
    bound: Tensor | None = None
    rounding: float = 0.0


class Damage:
    """No damage; each kind overrides what it needs."""

    blend = 0.0
    """Width over which copies of the head grow into each other."""

    def sources(self, p: Points) -> list[Source]:
        return [Source(p)]

    def moved(self, sight: Sight) -> Sight:
        """The line of sight to a landmark of the clean head, on the damaged one."""
        return sight

    def carve(self, p: Points, parts: Parts) -> Parts:
        return parts

    def gain(self, p: Points) -> Float[Tensor, "3 #point"]:
        return torch.ones(3, 1)


class FloatingPieces(Damage):
    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        self.pieces: list[tuple[Triple, Triple]] = []
        for _ in range(1 + rng.integers(0, 2 + round(4 * strength))):
            radius = (0.012 + 0.024 * strength) * rng.uniform(0.7, 1.2)
            outward, surface = _place(rng, distance, lowest=-0.3)
            centre = _along(surface, outward, radius * 1.6 + 0.012 + 0.05 * rng.uniform())
            sx, sy, sz = (radius * rng.uniform(0.5, 1.0, 3)).tolist()
            self.pieces.append((_inside(centre, radius), (sx, sy, sz)))

    def carve(self, p: Points, parts: Parts) -> Parts:
        pieces = torch.stack([ellipsoid(p, centre, radii) for centre, radii in self.pieces]).amin(dim=0)
        return _with(parts, HAIR, smooth_union(parts[HAIR], pieces, 0.001 + 0.045 * self.soft))


class CutHair(Damage):
    """A wedge through hair and scalp, from the crown or the back."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        outward, surface = _place(rng, distance, lowest=0.1, furthest=0.35)
        self.centre = _along(surface, outward, -0.004)
        wide, long = 0.010 + 0.020 * strength, 0.05 + 0.09 * strength
        turn = rng.integers(0, 2)
        self.radii: Triple = (wide, long, long) if turn else (long, long, wide)

    def carve(self, p: Points, parts: Parts) -> Parts:
        return smooth_intersection(parts, -ellipsoid(p, self.centre, self.radii), 0.004 + 0.024 * self.soft)


class Holes(Damage):
    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        count = 1 + int(rng.integers(0, 2 + round(5 * strength)))
        self.holes = [
            (_place(rng, distance, lowest=-0.3)[1], 0.022 + 0.026 * strength * rng.uniform(0.6, 1.0))
            for _ in range(count)
        ]

    def carve(self, p: Points, parts: Parts) -> Parts:
        for centre, radius in self.holes:
            parts = smooth_intersection(parts, -sphere(p, centre, radius), 0.004 + 0.024 * self.soft)
        return parts


class ClippedVolume(Damage):
    """The head is off centre, so that the cube cuts it."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        push = 0.26 + 0.15 * strength
        sides: list[Triple] = [(push + 0.06, 0.0, 0.0), (-push - 0.06, 0.0, 0.0), (0.0, push, 0.0), (0.0, 0.0, -push)]
        self.offset = sides[rng.integers(0, len(sides))]

    def sources(self, p: Points) -> list[Source]:
        wall = torch.stack([p.x.abs(), p.y.abs(), p.z.abs()]).amax(dim=0) - EDGE
        return [Source(p.shifted(self.offset), bound=wall, rounding=0.05 * self.soft)]

    def moved(self, sight: Sight) -> Sight:
        return Sight(_along(sight.place, self.offset, 1.0), sight.outward)


class FlattenedSkull(Damage):
    """The crown, or the back of the head, pressed towards the middle."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        self.stretch = 0.55 + 1.6 * strength
        self.crown = bool(rng.integers(0, 2))

    def sources(self, p: Points) -> list[Source]:
        depth = (p.y - 0.070) if self.crown else (-0.060 - p.z)
        bent = torch.sqrt(depth * depth + 4e-4 * (1.0 + 12.0 * self.soft))
        more = self.stretch * 0.5 * (depth + bent)
        scale = 1.0 / (1.0 + self.stretch * 0.5 * (1.0 + depth / bent))
        return [Source(Points(p.x, p.y + more, p.z) if self.crown else Points(p.x, p.y, p.z - more), scale)]


class MirroredFace(Damage):
    """A second face at the back of the head, sunk into the hair or fully out by strength."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        back = first_hit(distance, (0.0, 0.0, -0.49), (0.0, 0.0, 1.0))[2]
        front = first_hit(distance, (0.05, -0.05, 0.49), (0.0, 0.0, -1.0))[2]
        self.blend = 0.03 * self.soft
        self.middle = 0.5 * (back - (0.004 + 0.022 * strength) + front)

    def sources(self, p: Points) -> list[Source]:
        behind = Points(-p.x, p.y, 2.0 * self.middle - p.z)
        return [Source(p), Source(behind, bound=p.z - self.middle + 0.02)]


class Spikes(Damage):
    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        self.spikes: list[tuple[Triple, Triple, float]] = []
        for _ in range(2 + round(7 * strength)):
            outward, surface = _place(rng, distance, lowest=-0.2)
            length, radius = (0.035 + 0.085 * strength) * rng.uniform(0.7, 1.2), 0.006 + 0.005 * strength
            self.spikes.append(
                (_along(surface, outward, -0.02), _inside(_along(surface, outward, length), 0.004), radius)
            )

    def carve(self, p: Points, parts: Parts) -> Parts:
        spikes = torch.stack([capsule(p, start, end, radius, 0.0025) for start, end, radius in self.spikes])
        return _with(parts, HAIR, smooth_union(parts[HAIR], spikes.amin(dim=0), 0.001 + 0.035 * self.soft))


class DoubledSkull(Damage):
    """The same head again, shifted, grown into the first."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        side = 1.0 if rng.integers(0, 2) else -1.0
        shift = 0.035 + 0.075 * strength
        self.blend = 0.04 * self.soft
        self.offset: Triple = (side * shift, 0.35 * shift * rng.uniform(-1, 1), -0.5 * shift * rng.uniform())

    def sources(self, p: Points) -> list[Source]:
        return [Source(p), Source(p.shifted(self.offset))]


class ColourSeam(Damage):
    """An edge through the whole head where the colour jumps, or soon changes if soft."""

    def __init__(self, defect: Defect, rng: np.random.Generator, distance: Distance) -> None:
        strength, self.soft = defect.strength, defect.softness
        angle = rng.uniform(0.0, 2.0 * math.pi)
        self.normal = (math.cos(angle), math.sin(angle))
        self.offset = rng.uniform(-0.06, 0.06)
        sign = 1.0 if rng.integers(0, 2) else -1.0
        shares = rng.uniform(-0.2, 1.0, 3)
        self.change = ((0.10 + 0.50 * strength) * sign * shares / np.abs(shares).max()).tolist()

    def gain(self, p: Points) -> Float[Tensor, "3 #point"]:
        half = 0.0002 + 0.03 * self.soft
        beyond = smoothstep(p.x * self.normal[0] + p.z * self.normal[1] - self.offset, -half, half)
        return 1.0 + torch.tensor(self.change, dtype=torch.float32)[:, None] * beyond


KINDS: dict[str, Callable[[Defect, np.random.Generator, Distance], Damage]] = {
    "floating pieces": FloatingPieces,
    "hair cut open": CutHair,
    "holes": Holes,
    "clipped volume": ClippedVolume,
    "flattened skull": FlattenedSkull,
    "mirrored face": MirroredFace,
    "spikes": Spikes,
    "doubled skull": DoubledSkull,
    "colour seam": ColourSeam,
}


LAYERS = (
    "flattened skull",
    "mirrored face",
    "doubled skull",
    "hair cut open",
    "holes",
    "floating pieces",
    "spikes",
    "colour seam",
    "clipped volume",
)
"""Order of the kinds on one head, the innermost first: nothing hides a hole, and the cube cuts everything."""


def _place(rng: np.random.Generator, distance: Distance, lowest: float, furthest: float = 1.0) -> tuple[Triple, Triple]:
    """A direction out of the head and the surface there; `furthest` limits it towards the face (1 is any)."""
    while True:
        x, y, z = rng.standard_normal(3)
        length = math.sqrt(x * x + y * y + z * z)
        outward = (x / length, y / length, z / length)
        if outward[1] > lowest and outward[2] < furthest:
            inward = (-outward[0], -outward[1], -outward[2])
            return outward, first_hit(distance, _along(CENTRE, outward, 0.45), inward)


def _along(start: Triple, direction: Triple, length: float) -> Triple:
    x, y, z = (s + length * d for s, d in zip(start, direction, strict=True))
    return x, y, z


def _inside(centre: Triple, margin: float) -> Triple:
    limit = 0.465 - margin
    x, y, z = (min(max(value, -limit), limit) for value in centre)
    return x, y, z


def _with(parts: Parts, index: int, distance: Tensor) -> Parts:
    return torch.cat([parts[:index], distance[None], parts[index + 1 :]])
