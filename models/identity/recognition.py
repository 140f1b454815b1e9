"""A small face recognition network and the loss that trains it (ArcFace, arXiv:1801.07698).

The network maps 112 x 112 RGB crops, aligned on five landmarks and scaled to [-1, 1] as in insightface, to embeddings
whose cosine measures whether two crops show the same identity. Crops of small images have little detail, so they are
averaged over 2 x 2 pixels first. The head follows MobileFaceNet (arXiv:1804.07573): a depth-wise convolution over the
full last feature map, with separate weights for each position of the aligned face, then a linear layer and batch
normalisation.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from spinmeround.models.identity.params import CROP_SIDE, RecognitionConfig
from spinmeround.storage.records import FrozenModel

REDUCED_SIDE = CROP_SIDE // 2
"""Side of the crops after averaging, in pixels."""


class ResidualBlock(nn.Module):
    """The improved residual block of ArcFace, section 3.2: BN, conv, BN, PReLU, conv, BN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Float[Tensor, "crop channel h w"]) -> Float[Tensor, "crop channel h w"]:
        residual: Tensor = self.layers(features)
        return features + residual


class RecognitionNetwork(nn.Module):
    """Embeddings, not normalised, of aligned crops in [-1, 1]."""

    def __init__(self, config: RecognitionConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        width = 3
        for channels, blocks in zip(config.channels, config.blocks, strict=True):
            layers += [
                nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.PReLU(channels),
                *(ResidualBlock(channels) for _ in range(blocks)),
            ]
            width = channels
        side = REDUCED_SIDE // 2 ** len(config.channels)
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, side, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Flatten(),
            nn.Linear(width, config.embedding, bias=False),
            nn.BatchNorm1d(config.embedding),
        )

    def forward(self, crops: Float[Tensor, "crop 3 112 112"]) -> Float[Tensor, "crop embedding"]:
        return self.embed_reduced(reduce_crops(crops))

    def embed_reduced(self, crops: Float[Tensor, "crop 3 56 56"]) -> Float[Tensor, "crop embedding"]:
        """Embeddings of crops reduced by `reduce_crops`."""
        embeddings: Tensor = self.head(self.trunk(crops))
        return embeddings


def reduce_crops(crops: Float[Tensor, "crop 3 112 112"]) -> Float[Tensor, "crop 3 56 56"]:
    """Means over 2 x 2 pixels."""
    return F.avg_pool2d(crops, 2)


def additive_angular_margin(
    cosine: Float[Tensor, "crop identity"], labels: Int[Tensor, " crop"], margin: float
) -> Float[Tensor, "crop identity"]:
    """cos(theta + margin) at each crop's own identity, cos(theta) elsewhere (ArcFace, Equation 3).

    Above theta = pi - margin, where the cosine would increase again, uses the decreasing cos(theta) - margin
    sin(margin), as in the authors' code.
    """
    own = cosine.gather(1, labels[:, None])  # crop 1
    sine = (1 - own.square()).clamp_min(1e-9).sqrt()
    penalised = own * math.cos(margin) - sine * math.sin(margin)
    decreasing = torch.where(own > -math.cos(margin), penalised, own - margin * math.sin(margin))
    return cosine.scatter(1, labels[:, None], decreasing)


class ArcFaceLoss(nn.Module):
    """Cross entropy of the scaled cosines to one centre per identity, with the margin (ArcFace, Equation 3)."""

    def __init__(self, identities: int, embedding: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.centres = nn.Parameter(torch.randn(identities, embedding) * 0.01)

    def forward(
        self, embeddings: Float[Tensor, "crop embedding"], labels: Int[Tensor, " crop"], margin: float
    ) -> Float[Tensor, ""]:
        cosine = F.normalize(embeddings) @ F.normalize(self.centres).T  # crop identity
        return F.cross_entropy(self.scale * additive_angular_margin(cosine, labels, margin), labels)


class Verification(FrozenModel):
    """Face verification by the cosine of two embeddings."""

    accuracy: float = Field(description="Balanced accuracy at the best threshold")
    tar_at_far_1e2: float = Field(description="True accept rate at a false accept rate of 1 in 100")
    tar_at_far_1e3: float = Field(description="True accept rate at a false accept rate of 1 in 1000")
    same_mean: float = Field(description="Mean cosine of pairs of the same identity")
    other_mean: float = Field(description="Mean cosine of pairs of different identities")
    same_pairs: int
    other_pairs: int


def verification(embeddings: Float32[np.ndarray, "crop embedding"], labels: Int[np.ndarray, " crop"]) -> Verification:
    """Verification over all pairs of crops; raises ValueError if one kind of pair is missing."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), k=1)
    cosine = (unit @ unit.T)[first, second]
    is_same = labels[first] == labels[second]
    same, other = np.sort(cosine[is_same]), np.sort(cosine[~is_same])
    if not len(same) or not len(other):
        raise ValueError("verification: expected two crops of one identity and two identities; provide more crops")

    def accepted(threshold: Float[np.ndarray, " threshold"], scores: Float32[np.ndarray, " pair"]) -> np.ndarray:
        return 1 - np.searchsorted(scores, threshold, side="left") / len(scores)

    thresholds = np.linspace(-1.0, 1.0, 2001)
    at_far = accepted(np.quantile(other, [0.99, 0.999]) + 1e-7, same)
    return Verification(
        accuracy=float(np.max((accepted(thresholds, same) + 1 - accepted(thresholds, other)) / 2)),
        tar_at_far_1e2=float(at_far[0]),
        tar_at_far_1e3=float(at_far[1]),
        same_mean=float(same.mean()),
        other_mean=float(other.mean()),
        same_pairs=len(same),
        other_pairs=len(other),
    )
