"""Kinds that change colours and no shape."""

import math

import torch
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.appearance import noise
from spinmeround.panohead_bridge.procedural.anatomy.pigments import palette
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, smoothstep
from tests.benchmarks.held_out.frame import Paint, ball, rgb, turned, window


class PaintedEyes(Paint):
    """A pair of eyes painted on the back of the hair."""

    def cover(self, q: Points) -> Scalars:
        white, _ = self._eyes(q)
        return smoothstep(white, 1.0, 0.85) * smoothstep(q.z, -0.02, -0.06)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        _, iris = self._eyes(q)
        dark = smoothstep(iris, 1.0, 0.8)
        return rgb(0.92, 0.90, 0.88) * (1.0 - dark) + rgb(0.10, 0.09, 0.08) * dark

    def _eyes(self, q: Points) -> tuple[Scalars, Scalars]:
        """Squared distances to the whites and to the irises, one on their edges."""
        x, y = q.mirrored().x - 0.052, q.y - 0.03
        return (x / 0.033) ** 2 + (y / 0.016) ** 2, (x * x + y * y) / 0.0125**2


class SideGhost(Paint):
    """The face shows faintly on the side of the head."""

    def cover(self, q: Points) -> Scalars:
        front = self._front(q)
        x, y = front.x / 0.075, (front.y + 0.04) / 0.115
        return smoothstep(x * x + y * y, 1.1, 0.5) * smoothstep(front.z, 0.0, 0.04)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        front = self._front(q)
        return self.colour_of(Points(front.x, front.y, front.z + 0.035))

    def _front(self, q: Points) -> Points:
        return turned(q, -self.side * math.radians(110.0))


class BleedingHair(Paint):
    """The colour of the hair runs down over the face."""

    def cover(self, q: Points) -> Scalars:
        edge = 0.075 - 0.10 * self.strength + 0.022 * noise(Points(q.x, q.y * 0.2, q.z), 70.0)
        return 0.9 * smoothstep(q.y - edge, -0.012, 0.020) * smoothstep(q.z, 0.0, 0.05)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        return torch.tensor(palette(self.head.traits).hair_root)[:, None]


class WhiteHalo(Paint):
    """The white background has grown into the hair."""

    def cover(self, q: Points) -> Scalars:
        patches = smoothstep(noise(q, 26.0), 0.55 - 0.6 * self.strength, 0.95 - 0.6 * self.strength)
        return patches * smoothstep(q.y + 0.9 * (q.z.clamp(min=0.0)), 0.05, 0.11) * smoothstep(q.z, 0.10, 0.05)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        return rgb(1.0, 1.0, 1.0)


class SkinBlotches(Paint):
    """Grey and purple blotches on the skin."""

    def cover(self, q: Points) -> Scalars:
        return 0.85 * smoothstep(noise(q, 60.0), 0.10, 0.50) * smoothstep(q.z, -0.02, 0.04)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        return rgb(0.36, 0.25, 0.40)


class BlackSockets(Paint):
    """Both eyes are black hollows."""

    def cover(self, q: Points) -> Scalars:
        spot = ball(q.mirrored(), self.head.anatomy.eye, 0.026)
        return (1.6 * spot).clamp(max=1.0)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        return rgb(0.03, 0.03, 0.04)


class GreyFace(Paint):
    """The middle of the face has lost its colour, softly and evenly on both sides."""

    def cover(self, q: Points) -> Scalars:
        return (1.3 * ball(q, (0.0, -0.05, 0.12), 0.075)).clamp(max=1.0)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        grey = colours.mean(dim=0, keepdim=True)
        return (0.25 + 0.45 * grey) * rgb(0.92, 1.02, 1.0)


class MouthSmear(Paint):
    """The colour of the lips is smeared over chin and cheeks."""

    def cover(self, q: Points) -> Scalars:
        _, y, z = self.head.anatomy.mouth
        streaks = 0.75 + 0.25 * noise(Points(q.x, q.y * 0.3, q.z), 160.0)
        wide = 0.030 + 0.030 * self.strength
        spread = torch.exp(-0.5 * ((q.x / wide) ** 2 + ((q.y - y + 0.008) / (0.6 * wide)) ** 2))
        return (1.2 * spread * streaks).clamp(max=1.0) * window(q.z, z - 0.07, z + 0.10, 0.02)

    def paint(self, q: Points, colours: Tensor) -> Tensor:
        return rgb(0.58, 0.12, 0.16)
