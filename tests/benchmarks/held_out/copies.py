"""Kinds that repeat a feature where none may be, or turn it round."""

import math

import torch

from spinmeround.panohead_bridge.procedural.anatomy.head import Head
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, Triple, ellipsoid
from spinmeround.panohead_bridge.procedural.anatomy.skull import first_hit
from tests.benchmarks.held_out.frame import Copy, turned


class SecondNose(Copy):
    """A second nose beside the first."""

    def prepare(self) -> None:
        x, y, z = self.head.anatomy.nose_tip
        self.offset = (self.side * (0.040 + 0.012 * self.strength), 0.006, -0.012 - 0.020 * (1.0 - self.strength))
        self.centre = (x + self.offset[0], y + 0.016, z - 0.014)

    def back(self, q: Points) -> Points:
        return q.shifted(self.offset)

    def region(self, q: Points) -> Scalars:
        return ellipsoid(q, self.centre, (0.026, 0.046, 0.036))


class ForeheadMouth(Copy):
    """A second mouth on the forehead."""

    def prepare(self) -> None:
        a, t = self.head.anatomy, self.head.traits
        height = 0.5 * (a.brow_height + t.hairline) - 0.004
        depth = _surface(self.head, (0.0, height, 0.45), (0.0, 0.0, -1.0))[2]
        self.offset = (0.0, height - a.mouth[1], depth - a.mouth[2] + 0.006 * self.strength - 0.003)
        self.centre = (0.0, height, depth - 0.004)

    def back(self, q: Points) -> Points:
        return q.shifted(self.offset)

    def region(self, q: Points) -> Scalars:
        size = 0.55 + 0.45 * self.strength
        return ellipsoid(q, self.centre, (0.050 * size, 0.024 * size, 0.030))


class SideFace(Copy):
    """A second face looks out at the side of the head."""

    def back(self, q: Points) -> Points:
        deeper = 0.030 * (1.0 - self.strength)
        front = turned(q, -self.side * math.radians(105.0))
        return Points(front.x, front.y, front.z + deeper)

    def region(self, q: Points) -> Scalars:
        front = turned(q, -self.side * math.radians(105.0))
        return ellipsoid(front, (0.0, -0.04, 0.10), (0.085, 0.150, 0.120))


class SecondChin(Copy):
    """The lower face appears again below itself."""

    def prepare(self) -> None:
        self.offset = (0.0, -0.020 - 0.036 * self.strength, -0.006)
        self.low = self.head.anatomy.chin

    def back(self, q: Points) -> Points:
        return q.shifted(self.offset)

    def region(self, q: Points) -> Scalars:
        return ellipsoid(q, (0.0, self.low + self.offset[1] + 0.030, 0.085), (0.060, 0.050, 0.070))


class InsideOutEar(Copy):
    """One ear is turned inside out: a lump with the hollow of an ear in it."""

    def prepare(self) -> None:
        x, y, z = self.head.anatomy.ear
        self.wall = x + 0.020
        self.centre: Triple = (self.side * (x + 0.006), y, z - 0.016)

    def back(self, q: Points) -> Points:
        return Points(2.0 * self.side * self.wall - q.x, q.y, q.z)

    def region(self, q: Points) -> Scalars:
        size = self.head.traits.ear_size * (0.55 + 0.6 * self.strength)
        return ellipsoid(q, self.centre, (0.020 + 0.022 * self.strength, size, size * 0.9))


class SecondEar(Copy):
    """A further ear on the cheek, below and before the first."""

    def prepare(self) -> None:
        x, y, z = self.head.anatomy.ear
        low, front = -0.065, 0.050
        wall = _surface(self.head, (self.side * 0.45, y + low, z + front - 0.02), (-self.side, 0.0, 0.0))[0]
        out = wall + self.side * (0.014 * self.strength - 0.004)
        self.offset: Triple = (out - self.side * x, low, front)
        self.centre: Triple = (out + self.side * 0.010, y + low, z + front - 0.020)

    def back(self, q: Points) -> Points:
        return q.shifted(self.offset)

    def region(self, q: Points) -> Scalars:
        return ellipsoid(q, self.centre, (0.034, 0.050, 0.044))


class BackEyes(Copy):
    """The upper half of the face shows through the back of the hair."""

    def prepare(self) -> None:
        a = self.head.anatomy
        depth = _surface(self.head, (a.eye[0], a.eye[1] + 0.05, -0.45), (0.0, 0.0, 1.0))[2]
        self.lift, self.push = 0.05, -depth - a.eye[2] + 0.010 * self.strength - 0.004
        self.depth = depth

    def back(self, q: Points) -> Points:
        return Points(-q.x, q.y - self.lift, -q.z - self.push)

    def region(self, q: Points) -> Scalars:
        x, y, _ = self.head.anatomy.eye
        right = q.mirrored()
        return ellipsoid(right, (x, y + self.lift, self.depth), (0.036, 0.014 + 0.016 * self.strength, 0.040))


def _surface(head: Head, start: Triple, direction: Triple) -> Triple:
    """The place, in the head's frame, at which a ray of that frame first meets the clean head."""
    found = first_hit(head.distance, head.pose.world(start), head.pose.direction(direction))
    x, y, z = (float(value) for value in head.local(Points(*torch.tensor(found)[:, None])))
    return x, y, z
