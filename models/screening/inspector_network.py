"""A network that inspects the previews of a head for anything that clean heads do not have.

It sees all previews of a ring at once: RGB, mask and depth of each, and the mirror image of the preview from the other
side, which shows the same place of a symmetric head. It says where something is wrong, and how likely the head is
defective. Its training (`tasks.embedded.inspector`) shows it random changes of heads and no list of defects, after
DRAEM (Zavrtanik et al., "DRAEM - A discriminatively trained reconstruction embedding for surface anomaly detection",
ICCV 2021) and CutPaste (Li et al., CVPR 2021), in which arbitrary synthetic anomalies stand for unknown ones.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spinmeround.models.screening.inspection import STRIDE

DEPTH_SCALE = 0.2
BLUR = 5
"""Width, in pixels, of the blur from which fine relief is measured."""

PEAKS = 8
"""Number of the strongest cells of the map whose mean is evidence."""

Previews = Float[Tensor, "head view 6 h w"]
_FEATURES = 13


class InspectorNetwork(nn.Module):
    """Convolutions at a half to an eighth of the previews' side; views are joined by their mean and maximum."""

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.stem = nn.Sequential(nn.Conv2d(4 * _FEATURES, fine, 3, padding=1), Residual(fine))
        self.to_middle = nn.Sequential(nn.Conv2d(fine, middle, 3, 2, 1), Residual(middle))
        self.to_coarse = nn.Sequential(nn.Conv2d(middle, coarse, 3, 2, 1), Residual(coarse))
        self.context = nn.Sequential(nn.Linear(2 * coarse, coarse), nn.SiLU(), nn.Linear(coarse, coarse))
        self.coarse = Residual(coarse)
        self.up = nn.Conv2d(coarse, middle, 1)
        self.middle = Residual(middle)
        self.to_map = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(middle, 1, 1))
        summary = 2 * coarse + 2 * middle + 2
        self.to_head = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(summary, 64), nn.SiLU(), nn.Dropout(0.2), nn.Linear(64, 1)
        )

    def forward(self, previews: Previews) -> tuple[Float[Tensor, " head"], Float[Tensor, "head view rows columns"]]:
        """Log-odds of each head that it is defective, and of each cell that something is wrong there."""
        heads, views = previews.shape[:2]

        def of_heads(x: Tensor) -> Tensor:
            return x.reshape(heads, views, *x.shape[1:])

        fine = self.stem(F.pixel_unshuffle(features(previews).flatten(0, 1), 2))
        middle = self.to_middle(fine)
        coarse = self.to_coarse(middle)
        context = self.context(_over_views(of_heads(coarse)))  # head channel
        coarse = self.coarse(coarse + context.repeat_interleave(views, 0)[:, :, None, None])
        middle = self.middle(middle + F.interpolate(self.up(coarse), scale_factor=2.0))
        wrong = of_heads(self.to_map(middle)[:, 0])  # head view rows columns
        cells = wrong.flatten(1)
        peaks = [cells.topk(PEAKS, dim=1)[0].mean(1, keepdim=True), torch.logsumexp(cells, 1, keepdim=True)]
        share = torch.sigmoid(wrong)[:, :, None]
        own = of_heads(middle)
        attended = (own * share).sum((1, 3, 4)) / (share.sum((1, 3, 4)) + 1e-3)
        summary = [_over_views(of_heads(coarse)), attended, own.amax((1, 3, 4)), *peaks]
        return self.to_head(torch.cat(summary, dim=1))[:, 0], wrong


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [
            part
            for _ in range(2)
            for part in (nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "picture c h w"]) -> Float[Tensor, "picture c h w"]:
        found: Tensor = x + self.layers(x)
        return found


def features(previews: Previews) -> Float[Tensor, "head view 13 h w"]:
    """What the network sees of `models.screening.inspection.packed`: also fine relief, the mirror view and the place."""
    rgb, mask, depth, known = previews.split((3, 1, 1, 1), dim=2)
    views, side = previews.shape[1], previews.shape[-1]
    relative = (depth / DEPTH_SCALE).clamp(-1.5, 1.5) * known
    flat, weight = relative.flatten(0, 1), known.flatten(0, 1)
    blurred = _blur(flat) / _blur(weight).clamp(min=1e-3)
    relief = ((flat - blurred) * weight * 12.0).clamp(-1.5, 1.5).reshape(relative.shape)
    azimuth = 2.0 * math.pi / views * torch.arange(views, device=previews.device)[:, None, None, None]
    place = torch.linspace(-1.0, 1.0, side, device=previews.device)[:, None]
    parts = [rgb - 0.5, mask, relative, relief, mirrored(rgb) - 0.5, mirrored(relative)]
    places = [torch.ones_like(mask) * each for each in (torch.sin(azimuth), torch.cos(azimuth), place)]
    return torch.cat([*parts, *places], dim=2)


def mirrored(pictures: Float[Tensor, "head view c h w"]) -> Float[Tensor, "head view c h w"]:
    """The pictures of the mirrored head on a ring that begins at the front."""
    return torch.roll(pictures.flip(1, 4), 1, dims=1)


def _blur(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, BLUR, 1, BLUR // 2)


def _over_views(x: Float[Tensor, "head view c h w"]) -> Float[Tensor, "head 2*c"]:
    return torch.cat([x.mean((1, 3, 4)), x.amax((1, 3, 4))], dim=1)


def inspection_loss(
    log_odds: Float[Tensor, " head"],
    wrong: Float[Tensor, "head view rows columns"],
    defective: Float[Tensor, " head"],
    changed: Float[Tensor, "head view h w"],
) -> Float[Tensor, ""]:
    """Cross entropy of the heads plus three times that of the cells, where changed cells weigh four times."""
    target = F.max_pool2d(changed, STRIDE)
    cells = F.binary_cross_entropy_with_logits(wrong, target, weight=1.0 + 3.0 * target)
    return F.binary_cross_entropy_with_logits(log_odds, defective) + 3.0 * cells


class InspectorFile(nn.Module):
    """The network for one head, as it is exported: previews (view 6 h w) to log-odds (1) and map (view rows columns)."""

    def __init__(self, network: InspectorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, previews: Float[Tensor, "view 6 h w"]
    ) -> tuple[Float[Tensor, "1"], Float[Tensor, "view rows columns"]]:
        log_odds, wrong = self.network(previews[None])
        return log_odds, wrong[0]


