"""A network that inspects one preview of a head for anything that clean heads do not have.

It marks where something is wrong, cell by cell, and says how likely the view is anomalous. It is convolutional, and
told the azimuth and the place of each pixel. Its training (`tasks.embedded.inspector`) shows it random anomalies
(`anomalies`) and no list of defects.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spinmeround.models.screening.inspection.clean_features import CleanFeatures
from spinmeround.models.screening.inspection.places import DEPTH, KNOWN, MASK

STRIDE = 4
"""Pixels of a cell of the map along each side."""

PEAKS = 4
"""Number of a view's strongest cells whose mean is evidence."""

DEPTH_SCALE, SLOPE_SCALE, RELIEF_SCALE = 0.25, 0.02, 0.02
"""Depth, its change from pixel to pixel and its distance from its blur, in sides of the cube, that are 1 to the
network."""

_FEATURES = 14

Packed = Float[Tensor, "view 8 h w"]
"""What `places.Views` has, and the sine and cosine of the azimuth."""


class InspectorNetwork(nn.Module):
    """A small U-Net at a half to an eighth of the views' side."""

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 80)) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.stem = nn.Sequential(nn.Conv2d(_FEATURES, fine, 4, 2, 1), Residual(fine))
        self.to_middle = nn.Sequential(nn.Conv2d(fine, middle, 3, 2, 1), Residual(middle))
        self.to_coarse = nn.Sequential(nn.Conv2d(middle, coarse, 3, 2, 1), Residual(coarse), Residual(coarse))
        self.context = nn.Sequential(nn.Linear(coarse, coarse), nn.ReLU(), nn.Linear(coarse, coarse))
        self.coarse = Residual(coarse)
        self.up = nn.Conv2d(coarse, middle, 1)
        self.middle = Residual(middle)
        self.to_map = nn.Sequential(nn.BatchNorm2d(middle), nn.ReLU(), nn.Conv2d(middle, 1, 1))
        last = nn.Linear(coarse, 1)
        nn.init.zeros_(last.weight)
        self.to_view = nn.Sequential(nn.Linear(2 * middle + coarse, coarse), nn.ReLU(), last)
        self.peaks = nn.Parameter(torch.tensor([0.5, 0.5, 0.0]))

    def forward(self, views: Packed) -> tuple[Float[Tensor, " view"], Float[Tensor, "view rows columns"]]:
        """Log-odds of each view that something is wrong in it, and of each cell that something is wrong there."""
        return self.with_features(views)[:2]

    def with_features(
        self, views: Packed
    ) -> tuple[Float[Tensor, " view"], Float[Tensor, "view rows columns"], Float[Tensor, "view c r r"]]:
        """What `forward` gives, and the coarse features."""
        middle = self.to_middle(self.stem(features(views)))
        coarse = self.to_coarse(middle)
        coarse = self.coarse(coarse + self.context(coarse.mean((2, 3)))[:, :, None, None])
        middle = self.middle(middle + F.interpolate(self.up(coarse), scale_factor=2.0))
        wrong = self.to_map(middle)[:, 0]
        cells = wrong.flatten(1)
        strongest, together, bias = self.peaks[0] * cells.topk(PEAKS, 1)[0].mean(1), self.peaks[1], self.peaks[2]
        summary = torch.cat([middle.mean((2, 3)), middle.amax((2, 3)), coarse.mean((2, 3))], dim=1)
        log_odds = strongest + together * torch.logsumexp(cells, 1) + bias + self.to_view(summary)[:, 0]
        return log_odds, wrong, coarse


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [
            part
            for _ in range(2)
            for part in (nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "view c h w"]) -> Float[Tensor, "view c h w"]:
        found: Tensor = x + self.layers(x)
        return found


class InspectorFile(nn.Module):
    """What is exported: the network, and how far its features lie from those of clean views."""

    def __init__(self, network: InspectorNetwork, clean: CleanFeatures) -> None:
        super().__init__()
        self.network, self.clean = network, clean

    def forward(
        self, views: Packed
    ) -> tuple[Float[Tensor, " view"], Float[Tensor, "view rows columns"], Float[Tensor, "view r r"]]:
        log_odds, wrong, coarse = self.network.with_features(views)
        return log_odds, wrong, self.clean(coarse, views[:, KNOWN + 1 :, 0, 0])


def features(views: Packed) -> Float[Tensor, "view 14 h w"]:
    """What the network sees: also the depth's slope and its distance from its blur at two scales, and the place."""
    rgb, mask, depth, known = views[:, :MASK], views[:, MASK:DEPTH], views[:, DEPTH:KNOWN], views[:, KNOWN : KNOWN + 1]
    side = views.shape[-1]
    parts = [2.0 * rgb - 1.0, mask, depth / DEPTH_SCALE, known]
    down = (depth[:, :, 2:] - depth[:, :, :-2]) * known[:, :, 2:] * known[:, :, :-2]
    right = (depth[..., 2:] - depth[..., :-2]) * known[..., 2:] * known[..., :-2]
    parts += [(F.pad(down, (0, 0, 1, 1)) / SLOPE_SCALE).clamp(-2, 2), (F.pad(right, (1, 1)) / SLOPE_SCALE).clamp(-2, 2)]
    for width in (3, 9):
        blurred = _blur(depth, width) / _blur(known, width).clamp(min=1e-3)
        parts.append(((depth - blurred) * known * (9.0 / width / RELIEF_SCALE)).clamp(-2.0, 2.0))
    place = torch.linspace(-1.0, 1.0, side, device=views.device)
    rows, columns = (torch.ones_like(mask) * each for each in (place[:, None], place))
    return torch.cat([*parts, rows, columns, views[:, KNOWN + 1 :]], dim=1)


def _blur(x: Tensor, width: int) -> Tensor:
    return F.avg_pool2d(F.avg_pool2d(x, (width, 1), 1, (width // 2, 0)), (1, width), 1, (0, width // 2))


def inspection_loss(
    log_odds: Float[Tensor, " view"],
    wrong: Float[Tensor, "view rows columns"],
    changed: Float[Tensor, "view h w"],
    certain: Float[Tensor, "view h w"],
    anomalous: Float[Tensor, " view"],
    known: Float[Tensor, " view"],
) -> Float[Tensor, ""]:
    """Cross entropy of the views and of their cells, over those that are not doubtful (`anomalies.differences`).

    A cell is wrong where one of its pixels is changed; such cells weigh three times.
    """
    target = F.max_pool2d(changed, STRIDE)
    weight = (1.0 + 2.0 * target) * torch.maximum(target, -F.max_pool2d(-certain, STRIDE))
    cells = F.binary_cross_entropy_with_logits(wrong, target, weight=weight)
    views = F.binary_cross_entropy_with_logits(log_odds, anomalous, weight=known)
    return views + 2.0 * cells
