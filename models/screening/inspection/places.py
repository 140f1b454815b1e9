"""Random places of an anomaly: soft blobs, bands and patches on previews, and smooth random fields.

Everything is drawn for a batch of views at once. Lengths are in pixels of the views.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Views = Float[Tensor, "view 6 h w"]
"""Red, green, blue and mask, 0 to 1; depth beyond the head's centre, in sides of the cube, 0 where there is none; and
whether there is depth."""

Planes = Float[Tensor, "view h w"]
Numbers = Float[Tensor, "view 1 1"]
RED, MASK, DEPTH, KNOWN = 0, 3, 4, 5


@dataclass(frozen=True)
class Draw:
    """Random numbers for each of `count` views."""

    generator: torch.Generator
    count: int

    def uniform(self, low: float, high: float) -> Numbers:
        return low + (high - low) * torch.rand(self.count, 1, 1, generator=self.generator)

    def log_uniform(self, low: float, high: float) -> Numbers:
        return torch.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self, scale: float = 1.0) -> Numbers:
        return scale * torch.randn(self.count, 1, 1, generator=self.generator)

    def chance(self, share: float) -> Numbers:
        """1 for this share of the views, else 0."""
        return (self.uniform(0.0, 1.0) < share).float()

    def sign(self) -> Numbers:
        return 2.0 * self.chance(0.5) - 1.0

    def which(self, kinds: int) -> Int[Tensor, "view 1 1"]:
        """An index below `kinds` for each view."""
        return torch.randint(kinds, (self.count, 1, 1), generator=self.generator)

    def once(self, low: int, high: int) -> int:
        """One number for all views, from `low` to `high`."""
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def field(self, side: int, cells: int | None = None) -> Planes:
        """Smooth noise of mean 0 and deviation 1, on a random grid of cells of one size for all views."""
        cells = cells or int(2 ** float(1.0 + 3.7 * torch.rand(1, generator=self.generator)))
        nodes = torch.randn(self.count, 1, cells + 1, cells + 1, generator=self.generator)
        values = F.interpolate(nodes, (side, side), mode="bicubic", align_corners=True)[:, 0]
        return (values - values.mean((1, 2), keepdim=True)) / values.std((1, 2), keepdim=True).clamp(min=1e-3)

    def pixel(self, weights: Planes) -> tuple[Numbers, Numbers]:
        """Row and column of a pixel drawn with these weights."""
        flat = weights.flatten(1) + 1e-6
        index = torch.multinomial(flat, 1, generator=self.generator)[:, :, None]
        return (index // weights.shape[2]).float(), (index % weights.shape[2]).float()


@dataclass(frozen=True)
class Place:
    """Where an anomaly is: its weight from 0 to 1, its centre, and the distance from it in radii."""

    weight: Planes
    row: Numbers
    column: Numbers
    distance: Planes
    radius: Numbers


def grid(like: Views) -> tuple[Float[Tensor, "1 h 1"], Float[Tensor, "1 1 w"]]:
    """Rows and columns."""
    return torch.arange(like.shape[2])[None, :, None].float(), torch.arange(like.shape[3])[None, None].float()


def outline(views: Views) -> Planes:
    """1 within two pixels of the head's outline."""
    mask = views[:, MASK : MASK + 1]
    return (F.max_pool2d(mask, 5, 1, 2) + F.max_pool2d(-mask, 5, 1, 2))[:, 0]


def random_place(
    draw: Draw,
    views: Views,
    sizes: tuple[float, float] = (2.0, 20.0),
    *,
    at: Planes | None = None,
    sharpest: float = 12.0,
    aspect: float = 0.9,
) -> Place:
    """A blob on the head, or where `at` says, with its radius in `sizes`; a band or patches at times.

    An eighth of them are bands; a quarter are mirrored about the head's middle; an eighth are broken into patches.
    """
    rows, columns = grid(views)
    row, column = draw.pixel(views[:, MASK] if at is None else at)
    radius, longer = draw.log_uniform(*sizes), torch.exp(draw.uniform(-aspect, aspect))
    angle = draw.uniform(-math.pi, math.pi) * draw.chance(0.7)
    band = draw.chance(0.125)
    angle = torch.where(band > 0, angle * draw.chance(0.3), angle)
    along = (columns - column) * torch.cos(angle) + (rows - row) * torch.sin(angle)
    across = (rows - row) * torch.cos(angle) - (columns - column) * torch.sin(angle)
    first = along / (radius * longer) * (1.0 - band)
    distance = torch.sqrt(first.square() + (across * longer / radius).square() + 1e-6)
    distance = distance + 0.25 * draw.chance(0.5) * draw.field(views.shape[2], draw.once(3, 10))
    weight = torch.sigmoid((1.0 - distance) * draw.log_uniform(3.0, sharpest))
    mirrored = torch.maximum(weight, _mirrored(weight, views))
    weight = torch.where(draw.chance(0.25) > 0, mirrored, weight)
    patches = torch.sigmoid(6.0 * (draw.field(views.shape[2], draw.once(6, 20)) - draw.uniform(-0.3, 1.0)))
    weight = torch.where(draw.chance(0.125) > 0, weight * patches, weight)
    return Place(weight, row, column, distance, radius)


def middle_column(views: Views) -> Numbers:
    """Mean column of the head's pixels."""
    _, columns = grid(views)
    mask = views[:, MASK]
    return (mask * columns).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True).clamp(min=1.0)


def _mirrored(weight: Planes, views: Views) -> Planes:
    """The weight mirrored about the head's middle column."""
    _, columns = grid(views)
    found = (2.0 * middle_column(views) - columns).round().long().clamp(0, views.shape[3] - 1)
    return weight.gather(2, found.expand_as(weight))


def sampled(views: Views, rows: Planes, columns: Planes) -> Views:
    """The views at other places; beside the picture is background. Depth does not mix with the background."""
    side = views.shape[2]
    places = torch.stack([(2.0 * columns + 1.0) / side - 1.0, (2.0 * rows + 1.0) / side - 1.0], dim=-1)
    rgb, mask, depth, known = views[:, :MASK], views[:, MASK:DEPTH], views[:, DEPTH:KNOWN], views[:, KNOWN:]
    parts = torch.cat([rgb - 1.0, mask, depth * known, known], dim=1)
    found = F.grid_sample(parts, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return with_depth(found[:, :3] + 1.0, found[:, 3:4], found[:, 4:5], found[:, 5:6])


def with_depth(
    rgb: Float[Tensor, "view 3 h w"],
    mask: Float[Tensor, "view 1 h w"],
    weighted: Float[Tensor, "view 1 h w"],
    weight: Float[Tensor, "view 1 h w"],
) -> Views:
    """Views whose depth is a weighted mean; unknown where its weight is below a half."""
    known = (weight > 0.5).float()
    return torch.cat([rgb, mask, weighted / weight.clamp(min=1e-3) * known, known], dim=1)
