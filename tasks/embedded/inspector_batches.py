"""Batches that an inspector is trained on: random previews of clean heads, anomalies painted onto half of them.

Mirrored, slightly moved, differently lit and noisy views are not anomalous.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int16, UInt8
from torch import Tensor

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.screening.inspection.anomalies import differences, painted
from spinmeround.models.screening.inspection.inspector import packed
from spinmeround.models.screening.inspection.places import DEPTH, KNOWN, MASK, Draw, Views, grid, sampled
from spinmeround.storage.records import Rendering

DEPTH_STEPS, NO_DEPTH = 30_000.0, np.int16(32767)
"""Depth is kept as whole numbers: this many a side of the cube, and NO_DEPTH beside the head."""


Flips = Bool[Tensor, "view 1 1 1"]

Ring = tuple[UInt8[np.ndarray, "view 4 h w"], Int16[np.ndarray, "view h w"]]
"""Previews of a head: red, green, blue and mask; and depth."""


def small_ring(previews: Rendering, cameras: Cameras, box_warp: float) -> Ring:
    """Previews as they are kept for training."""
    views = packed(previews, cameras, box_warp)
    depth = np.where(views[:, KNOWN] > 0.5, views[:, DEPTH] * DEPTH_STEPS, NO_DEPTH)
    colours = np.clip(255.0 * views[:, :DEPTH], 0.0, 255.0)
    return colours.round().astype(np.uint8), np.clip(depth.round(), -NO_DEPTH, NO_DEPTH).astype(np.int16)


@dataclass(frozen=True)
class Rings:
    """Previews of clean heads to train on, in little memory; the azimuths are those of all heads."""

    colours: UInt8[Tensor, "head view 4 h w"]
    depth: Int16[Tensor, "head view h w"]
    azimuth_deg: Float[Tensor, " view"]

    @staticmethod
    def of(heads: list[Ring], azimuth_deg: np.ndarray) -> "Rings":
        colours, depth = (torch.from_numpy(np.stack(parts)) for parts in zip(*heads, strict=True))
        return Rings(colours, depth, torch.from_numpy(azimuth_deg).float())

    def views(self, heads: Int[Tensor, " row"], views: Int[Tensor, " row"]) -> Views:
        known = (self.depth[heads, views] != int(NO_DEPTH)).float()[:, None]
        depth = self.depth[heads, views].float()[:, None] / DEPTH_STEPS * known
        return torch.cat([self.colours[heads, views].float() / 255.0, depth, known], dim=1)

    def directions(self, views: Int[Tensor, " row"]) -> Float[Tensor, "row 2"]:
        """Sine and cosine of the azimuths."""
        angle = torch.deg2rad(self.azimuth_deg[views])
        return torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)

    def packed(self, heads: Int[Tensor, " row"], views: Int[Tensor, " row"]) -> Float[Tensor, "row 8 h w"]:
        """The network's input."""
        return _with_directions(self.views(heads, views), self.directions(views))


@dataclass(frozen=True)
class Batch:
    """Views to train on, the clean half first, and what `anomalies.differences` says of them."""

    views: Float[Tensor, "view 8 h w"]
    changed: Float[Tensor, "view h w"]
    certain: Float[Tensor, "view h w"]
    anomalous: Float[Tensor, " view"]
    known: Float[Tensor, " view"]


def draw_batch(rings: Rings, count: int, generator: torch.Generator) -> Batch:
    """`count` random views, anomalies painted onto the second half, all of them augmented.

    Pieces are pasted from other azimuths of the same heads and from other heads.
    """
    number, ring = rings.depth.shape[:2]
    heads = torch.randint(number, (count,), generator=generator)
    views = torch.randint(ring, (count,), generator=generator)
    half = count // 2
    others = (views[half:] + torch.randint(1, ring, (count - half,), generator=generator)) % ring
    strangers = torch.randint(number, (count - half,), generator=generator)
    flip = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    clean = posed(rings.views(heads, views), flip, generator)
    mirrored = flip[half:]
    own = _flipped(rings.views(heads[half:], others), mirrored)
    foreign = _flipped(rings.views(strangers, torch.where(strangers % 2 == 0, others, views[half:])), mirrored)
    found = torch.cat([clean[:half], painted(clean[half:], own, foreign, generator)])
    directions = rings.directions(views) * torch.where(flip[:, :, 0, 0], torch.tensor([-1.0, 1.0]), torch.ones(2))
    return Batch(_with_directions(lit(found, generator), directions), *differences(clean, found))


def _with_directions(views: Views, directions: Float[Tensor, "view 2"]) -> Float[Tensor, "view 8 h w"]:
    return torch.cat([views, directions[:, :, None, None].expand(-1, -1, *views.shape[2:])], dim=1)


def posed(views: Views, flip: Flips, generator: torch.Generator) -> Views:
    """The flipped views mirrored; two fifths of all turned, scaled and shifted by a little."""
    draw, (rows, columns), middle = Draw(generator, len(views)), grid(views), (views.shape[2] - 1) / 2
    views = _flipped(views, flip)
    moved = draw.chance(0.4)
    angle, scale = draw.normal(0.04), torch.exp(draw.normal(0.03))
    down, right = rows - middle, columns - middle
    turned = sampled(
        views,
        middle + draw.normal(1.0) + (torch.cos(angle) * down - torch.sin(angle) * right) * scale,
        middle + draw.normal(1.0) + (torch.cos(angle) * right + torch.sin(angle) * down) * scale,
    )
    return torch.where(moved[:, None] > 0, turned, views)


def _flipped(views: Views, flip: Flips) -> Views:
    return torch.where(flip, views.flip(3), views)


def lit(views: Views, generator: torch.Generator) -> Views:
    """Other exposure, tint and gamma of the head, a slight offset of its depth; noise on half of the views."""
    count = len(views)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    rgb, mask, depth, known = views[:, :MASK], views[:, MASK:DEPTH], views[:, DEPTH:KNOWN], views[:, KNOWN:]
    gain = torch.exp(0.1 * normal(1, 1, 1) + 0.06 * normal(3, 1, 1))
    rgb = rgb.clamp(min=1e-3) ** torch.exp(0.1 * normal(1, 1, 1)) * (gain * mask + 1.0 - mask)
    noise = 0.02 * torch.rand(count, 2, 1, 1, 1, generator=generator)
    noise = noise * (torch.rand(count, 2, 1, 1, 1, generator=generator) < 0.5)
    rgb = (rgb + noise[:, 0] * torch.randn(rgb.shape, generator=generator)).clamp(0.0, 1.0)
    depth = depth + 0.008 * normal(1, 1, 1) + 0.04 * noise[:, 1] * torch.randn(depth.shape, generator=generator)
    return torch.cat([rgb, mask, depth * known, known], dim=1)
