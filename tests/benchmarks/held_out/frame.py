"""What the kinds of defects share: the head's own frame, and the three ways in which a kind changes a head.

A kind is made from a strength of 0 (nothing) to 1 (gross), random numbers and the clean head. Places are in
the head's frame and unit: y up, the face towards +z, eyes near y = 0, chin near y = -0.18, neck below.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.appearance import Appearance
from spinmeround.panohead_bridge.procedural.anatomy.head import PARTS, Head
from spinmeround.panohead_bridge.procedural.anatomy.pose import PIVOT, SCALE
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, smoothstep

SKIN, HAIR = PARTS.index("skin"), PARTS.index("hair")


Parts = Tensor
"""Distances to the head's parts, (part, point)."""


@dataclass(frozen=True)
class Source:
    """Where on the clean head a point lies, the factor that preserves distances, and a bound to the copy."""

    points: Points
    scale: float = 1.0
    bound: Tensor | None = None


class Kind:
    """A defect of one head; does nothing by itself."""

    def __init__(self, strength: float, rng: np.random.Generator, head: Head) -> None:
        self.strength, self.rng, self.head = strength, rng, head
        self.side = 1.0 if rng.integers(0, 2) else -1.0
        self.prepare()

    def prepare(self) -> None:
        """Draw the places."""

    def sources(self, p: Points) -> list[Source]:
        """The points of the clean head that world points show."""
        return [Source(p)]

    def carve(self, p: Points, parts: Parts) -> Parts:
        """The parts with what is added or cut, in world units."""
        return parts

    def tint(self, p: Points, colours: Tensor) -> Tensor:
        """The colours, (3, point), with what is painted on them."""
        return colours

    def world(self, q: Points) -> Points:
        """Points of the head's frame in the world: the inverse of `Head.local`."""
        pose = self.head.pose
        offset = [v - pivot for v, pivot in zip(q, PIVOT, strict=True)]
        turned = [sum(float(m) * v for m, v in zip(row, offset, strict=True)) for row in pose.turn]
        return Points(
            *((v + pivot) * SCALE + shift for v, pivot, shift in zip(turned, PIVOT, pose.offset, strict=True))
        )


class Warp(Kind):
    """Shows at each point what the clean head has elsewhere, at `bend` of the point."""

    stretch = 1.0
    """Largest factor by which `bend` stretches lengths at strength 1."""

    def bend(self, q: Points) -> Points:
        raise NotImplementedError

    def sources(self, p: Points) -> list[Source]:
        scale = 1.0 / (1.0 + (self.stretch - 1.0) * self.strength)
        return [Source(self.world(self.bend(self.head.local(p))), scale)]


class Copy(Kind):
    """Adds a second copy of a region of the head, `moved` back to where it comes from, inside `region`."""

    def back(self, q: Points) -> Points:
        """The point of the clean head that a point of the copy shows."""
        raise NotImplementedError

    def region(self, q: Points) -> Scalars:
        """Signed distance, in the head's unit, to the solid that bounds the copy."""
        raise NotImplementedError

    def sources(self, p: Points) -> list[Source]:
        if self.strength == 0.0:
            return [Source(p)]
        q = self.head.local(p)
        return [Source(p), Source(self.world(self.back(q)), bound=self.region(q) * SCALE)]


class Solid(Kind):
    """Adds to the parts or cuts them, in the head's unit."""

    def change(self, q: Points, parts: Parts) -> Parts:
        raise NotImplementedError

    def carve(self, p: Points, parts: Parts) -> Parts:
        if self.strength == 0.0:
            return parts
        return self.change(self.head.local(p), parts * (1.0 / SCALE)) * SCALE


class Paint(Kind):
    """Mixes another colour in."""

    def cover(self, q: Points) -> Scalars:
        """Share of the other colour, 0 to 1, at full strength."""
        raise NotImplementedError

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        """The other colour, (3, point) or (3, 1)."""
        raise NotImplementedError

    def tint(self, p: Points, colours: Tensor) -> Tensor:
        q = self.head.local(p)
        return colours + (self.paint(q, colours) - colours) * (self.strength * self.cover(q)).clamp(0.0, 1.0)

    def colour_of(self, q: Points) -> Tensor:
        """The clean head's own colour at a place of its frame."""
        p = self.world(q)
        return Appearance.of(self.head).albedo(p, self.head.parts(p))


def rgb(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue])[:, None]


def ball(q: Points, centre: tuple[float, float, float], radius: float) -> Scalars:
    """One at the centre, falling as a bell of this width."""
    x, y, z = q.shifted(centre)
    return torch.exp((x * x + y * y + z * z) * (-0.5 / radius**2))


def window(value: Tensor, low: float, high: float, soft: float) -> Tensor:
    """One between `low` and `high`, zero outside, over `soft`."""
    return smoothstep(value, low - soft, low) * smoothstep(value, high + soft, high)


def turned(q: Points, radians: float) -> Points:
    """Points turned about the upright axis; a positive angle turns +z towards +x."""
    cos, sin = math.cos(radians), math.sin(radians)
    return Points(cos * q.x + sin * q.z, q.y, cos * q.z - sin * q.x)


def with_part(parts: Parts, index: int, distance: Tensor) -> Parts:
    return torch.cat([parts[:index], distance[None], parts[index + 1 :]])
