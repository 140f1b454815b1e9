"""How far the features of a view lie from those of clean views, place by place.

After PaDiM (Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
ICPR 2021, arXiv:2011.08785): a Gaussian of a random projection of a network's features at each place, here of each
azimuth. It needs clean heads alone, and is not told what an anomaly is.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

KEPT, BLOCK = 48, 2
"""Number of projected features, and side of the blocks of places that share a covariance."""

SHRINKAGE, FLOOR, LEAST = 0.05, 0.1, 1e-6
"""Shares of a covariance's own mean variance, and of that of all places, and the least variance, that are added to its
diagonal."""


class CleanFeatures(nn.Module):
    """A Gaussian of clean features at each place of each azimuth of a ring."""

    directions: Tensor
    projection: Tensor
    means: Tensor
    whitening: Tensor

    def __init__(self, azimuths: int, channels: int, side: int) -> None:
        super().__init__()
        kept, blocks = min(KEPT, channels), side // BLOCK
        self.register_buffer("directions", torch.zeros(azimuths, 2))
        self.register_buffer("projection", torch.zeros(channels, kept))
        self.register_buffer("means", torch.zeros(azimuths, side, side, kept))
        self.register_buffer("whitening", torch.zeros(azimuths, blocks, blocks, kept, kept, dtype=torch.float16))

    @staticmethod
    def of(
        features: Float[Tensor, "head view c r r"], directions: Float[Tensor, "view 2"], seed: int
    ) -> "CleanFeatures":
        """Fit to the features of clean heads, whose views have the given sines and cosines of azimuths."""
        heads, views, channels, side, _ = features.shape
        found = CleanFeatures(views, channels, side)
        mixed = torch.randn(channels, channels, generator=torch.Generator().manual_seed(seed))
        found.projection = torch.linalg.qr(mixed)[0][:, : found.projection.shape[1]]
        kept = torch.einsum("nvcij,cd->vijnd", features.float(), found.projection)
        found.directions, found.means = directions, kept.mean(3)
        off = kept - found.means[:, :, :, None]
        covariance = (off.transpose(-1, -2) @ off / heads).flatten(3).permute(0, 3, 1, 2)  # view d*d i j
        covariance = F.avg_pool2d(covariance, BLOCK).permute(0, 2, 3, 1)
        covariance = covariance.reshape(*covariance.shape[:3], *found.whitening.shape[3:])
        variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        covariance = covariance + (FLOOR * variance.mean() + SHRINKAGE * variance + LEAST) * torch.eye(kept.shape[-1])
        found.whitening = torch.linalg.cholesky(torch.linalg.inv(covariance)).half()
        return found

    def forward(
        self, features: Float[Tensor, "view c r r"], directions: Float[Tensor, "view 2"]
    ) -> Float[Tensor, "view r r"]:
        """Logarithm of the mean squared whitened deviation, by the Gaussians of the nearest azimuth."""
        nearest = (directions @ self.directions.T).argmax(1)
        off = torch.einsum("vcij,cd->vijd", features, self.projection) - self.means[nearest]
        rows, side = self.whitening.shape[1], off.shape[1]
        blocks = off.reshape(-1, rows, side // rows, rows, side // rows, off.shape[3]).permute(0, 1, 3, 2, 4, 5)
        white = blocks.flatten(3, 4) @ self.whitening[nearest].float()  # view block block place d
        squared = white.square().mean(-1).reshape(-1, rows, rows, side // rows, side // rows)
        return torch.log(squared.permute(0, 1, 3, 2, 4).reshape(-1, side, side) + 1e-6)
