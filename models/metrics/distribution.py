"""FID and KID by torchmetrics: distances between the features of two sets of pictures.

The feature network is given; nothing is downloaded. `tasks.weights.inception` reads the Inception network of the
published figures from a user's file.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float64, UInt8
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

Pictures = UInt8[np.ndarray, "_ height width 3"]
"""One batch of a set; batches may differ in length."""

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
"""Subsets of the estimate and pictures of each, as published; one subset of all pictures if there are fewer."""


class FeatureDistances:
    """FID and KID of predicted sets to one true set, with the features of one network.

    `network` maps uint8 pictures (n, 3, height, width) to features (n, d).
    """

    def __init__(self, network: nn.Module, truth: Iterable[Pictures]) -> None:
        """Computes the features of the true pictures.

        Raises:
            ValueError: for fewer than two pictures, which have no covariance.
        """
        self._network = network.eval().requires_grad_(False)
        self._truth = self._features(truth)
        if len(self._truth) < 2:
            raise ValueError(f"fid: expected two or more true pictures, got {len(self._truth)}")

    def __call__(self, predicted: Iterable[Pictures]) -> dict[str, float]:
        """`fid` and `kid` of a set of two or more predicted pictures."""
        found = self._features(predicted)
        return {"fid": self._fid(found), "kid": self._kid(found)}

    @torch.inference_mode()
    def _features(self, pictures: Iterable[Pictures]) -> Float64[Tensor, "picture d"]:
        batches = (rearrange(torch.from_numpy(batch), "n h w c -> n c h w").contiguous() for batch in pictures)
        return torch.cat([self._network(batch).double() for batch in batches])

    def _fid(self, found: Float64[Tensor, "picture d"]) -> float:
        metric = FrechetInceptionDistance(feature=_KnownFeatures(found.shape[1]))
        return float(_compared(metric, self._truth, found))

    def _kid(self, found: Float64[Tensor, "picture d"]) -> float:
        fewest = min(len(found), len(self._truth))
        subsets, size = (KID_SUBSETS, KID_SUBSET_SIZE) if fewest > KID_SUBSET_SIZE else (1, fewest)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
            torch.manual_seed(0)  # of the subsets
            metric = KernelInceptionDistance(feature=_KnownFeatures(found.shape[1]), subsets=subsets, subset_size=size)
            return float(_compared(metric, self._truth, found)[0])


class _KnownFeatures(nn.Module):
    """Stands for a network whose features are known, so that those of the truth are computed once."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _compared(metric: Any, truth: Tensor, found: Tensor) -> Any:
    metric.update(truth, real=True)
    metric.update(found, real=False)
    return metric.compute()
