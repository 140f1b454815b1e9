"""Kinds that bend the head: most are smooth, symmetric or on the midline."""

import torch

from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, smoothstep
from tests.benchmarks.held_out.frame import Warp, ball, window


class StalkNeck(Warp):
    """The neck is a thin stalk."""

    stretch = 1.8

    def bend(self, q: Points) -> Points:
        across = torch.sqrt(q.x**2 + (q.z + 0.050) ** 2 + 1e-9)
        share = window(q.y, -0.25, -0.165, 0.06) * smoothstep(across, 0.20, 0.12) * smoothstep(q.z, 0.075, 0.025)
        thin = 1.0 + 1.7 * self.strength * share
        return Points(q.x * thin, q.y, (q.z + 0.050) * thin - 0.050)


class ThickNeck(Warp):
    """The neck swells beyond the jaw, as if head and shoulders were one column."""

    def bend(self, q: Points) -> Points:
        share = window(q.y, -0.26, -0.14, 0.07) * smoothstep(q.z, 0.11, 0.02)
        thick = 1.0 / (1.0 + 0.75 * self.strength * share)
        return Points(q.x * thick, q.y, (q.z + 0.050) * thick - 0.050)


class CollapsedChin(Warp):
    """Chin and lower jaw sink back into the neck."""

    stretch = 1.3

    def bend(self, q: Points) -> Points:
        share = smoothstep(q.y, -0.085, -0.165) * smoothstep(q.y, -0.30, -0.22) * smoothstep(q.z, -0.02, 0.07)
        return Points(q.x, q.y, q.z + 0.075 * self.strength * share)


class RisenShoulder(Warp):
    """One shoulder swells up to the ear."""

    stretch = 1.3

    def bend(self, q: Points) -> Points:
        share = smoothstep(self.side * q.x, 0.030, 0.12) * smoothstep(q.y, -0.02, -0.14) * smoothstep(q.z, 0.09, 0.03)
        return Points(q.x, q.y - 0.15 * self.strength * share, q.z)


class CardboardHead(Warp):
    """The whole head is pressed flat from front to back."""

    stretch = 1.9

    def bend(self, q: Points) -> Points:
        return Points(q.x, q.y, (q.z - 0.02) * (1.0 + 0.9 * self.strength) + 0.02)


class BalloonedCranium(Warp):
    """The skull above the brows is blown up."""

    def bend(self, q: Points) -> Points:
        share = smoothstep(q.y, 0.00, 0.10)
        size = 1.0 / (1.0 + 0.38 * self.strength * share)
        return Points(q.x * size, (q.y - 0.04) * size**0.4 + 0.04, (q.z + 0.02) * size - 0.02)


class PinchedHead(Warp):
    """The head is narrow at the height of the ears, like an hourglass."""

    stretch = 1.5

    def bend(self, q: Points) -> Points:
        share = torch.exp(-0.5 * ((q.y - 0.01) / 0.055) ** 2)
        narrow = 1.0 + 0.55 * self.strength * share
        return Points(q.x * narrow, q.y, q.z)


class DroppedEye(Warp):
    """One eye slides down the cheek."""

    stretch = 1.5

    def bend(self, q: Points) -> Points:
        x, y, _ = self.head.anatomy.eye
        drop = 0.042 * self.strength
        share = window(self.side * q.x, x - 0.026, x + 0.030, 0.014)
        share = share * window(q.y, y - drop - 0.020, y + 0.020, 0.024) * smoothstep(q.z, 0.02, 0.06)
        return Points(q.x, q.y + drop * share, q.z)


class SwirledFace(Warp):
    """The face is stirred around the nose."""

    stretch = 1.7

    def bend(self, q: Points) -> Points:
        x, y, _ = self.head.anatomy.nose_tip
        dx, dy = q.x - x, q.y - y
        share = torch.exp(-0.5 * (dx * dx + dy * dy) / 0.052**2) * smoothstep(q.z, 0.0, 0.06)
        angle = 1.1 * self.side * self.strength * share
        cos, sin = torch.cos(angle), torch.sin(angle)
        return Points(x + cos * dx - sin * dy, y + sin * dx + cos * dy, q.z)


class WrinkledBack(Warp):
    """Folds run across the back of the head and the neck."""

    stretch = 1.6

    def bend(self, q: Points) -> Points:
        share = smoothstep(q.z, -0.02, -0.09)
        fold: Scalars = torch.sin(q.y * 150.0 + 0.6 * torch.sin(q.x * 31.0))
        return Points(q.x, q.y, q.z - 0.009 * self.strength * share * fold)


class DentedFace(Warp):
    """The middle of the face is pushed in, as by a ball."""

    stretch = 1.3

    def bend(self, q: Points) -> Points:
        _, y, z = self.head.anatomy.nose_tip
        share = ball(q, (0.0, y + 0.012, z - 0.02), 0.040)
        return Points(q.x, q.y, q.z + 0.060 * self.strength * share)
