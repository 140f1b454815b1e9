"""The statistics of the latents that a training normalises by: over all views of its heads.

Heads without normals do not count in the normal half, which stays as it is if no head has any.

Latents on disk are of pictures on white. Where a share of the samples has a random background, the image half is that
of the mixture: the moments on random colours are estimated from some samples of the training itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Float64
from torch import Tensor

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.loading.reader import read_latents
from spinmeround.tasks.training.data.batches import TrainingBatches
from spinmeround.tasks.training.params import TrainParams

_RECOLOURED_VIEWS = 512
"""Views on random colours: the error of a mean is a 23rd of the deviation, that of a deviation a 32nd of it."""

LEAST_STD = 0.02
"""Deviations are at least this share of their channel's: at a border that is always background they are rounding."""


class Statistics(NamedTuple):
    """Mean and standard deviation of latents, image half first."""

    mean: Float[Tensor, "half channel h w"]
    std: Float[Tensor, "half channel h w"]

    def normalised_images(self, latents: Float[Tensor, "*batch channel h w"]) -> Float[Tensor, "*batch channel h w"]:
        """Image latents of zero mean and unit variance."""
        return (latents - self.mean[0]) / self.std[0]


class Moments(NamedTuple):
    """First and second moments of latents, image half first."""

    first: Float64[Tensor, "half channel h w"]
    second: Float64[Tensor, "half channel h w"]

    @classmethod
    def of(cls, latents: Iterable[Float[Tensor, "view channels h w"]], halves: int = 2) -> "Moments":
        """Those over all views of all heads."""
        count, sums = 0, [torch.zeros((), dtype=torch.float64)] * 2
        for views in latents:
            parts = rearrange(views.double(), "v (k c) h w -> v k c h w", k=halves)
            sums = [sums[0] + parts.sum(0), sums[1] + parts.square().sum(0)]
            count += len(views)
        return cls(sums[0] / count, sums[1] / count)

    def mixed(self, other: "Moments", image_share: float) -> "Moments":
        """Those of a mixture: of the image half, a share is from `other`."""
        share = torch.tensor([image_share, 0.0], dtype=torch.float64).view(2, 1, 1, 1)
        return Moments(torch.lerp(self.first, other.first, share), torch.lerp(self.second, other.second, share))

    def with_normals_of(self, other: "Moments | None") -> "Moments":
        """These with the normal half of other latents; for None, of mean 0 and deviation 1."""
        first, second = self.first.clone(), self.second.clone()
        first[1] = 0.0 if other is None else other.first[1]
        second[1] = 1.0 if other is None else other.second[1]
        return Moments(first, second)

    def statistics(self) -> Statistics:
        """Mean and standard deviation, which `LEAST_STD` bounds from below."""
        variance = (self.second - self.first.square()).clamp_min(0)
        whole = self.second.mean((2, 3), keepdim=True) - self.first.mean((2, 3), keepdim=True).square()
        least = LEAST_STD * whole.clamp_min(1e-12).sqrt()
        return Statistics(self.first.float(), torch.maximum(variance.sqrt(), least).float())


def head_statistics(
    data: HeadDataset, subjects: Sequence[int], params: TrainParams, encode: EncodeParams
) -> Statistics:
    """The statistics of the latents of heads, as a training sees them."""
    found = _stored(data, subjects)
    if len(having := [subject for subject in subjects if data.has_normals(subject)]) < len(subjects):
        found = found.with_normals_of(_stored(data, having) if having else None)
    if params.random_background:
        found = found.mixed(Moments.of(_recoloured(data, subjects, params, encode)), params.random_background)
    return found.statistics()


def _stored(data: HeadDataset, subjects: Sequence[int]) -> Moments:
    return Moments.of(torch.from_numpy(read_latents(data, subject, range(data.views))) for subject in subjects)


def _recoloured(
    data: HeadDataset, subjects: Sequence[int], params: TrainParams, encode: EncodeParams
) -> Iterator[Float[Tensor, "view channel h w"]]:
    """Latents of some groups of the training, each on a random colour."""
    every = params.model_copy(update={"random_background": 1.0, "memory_mb": 0})
    batches, step, seen = TrainingBatches(data, subjects, every, encode), 0, 0
    while seen < _RECOLOURED_VIEWS:
        latents = batches.read(step).latents.flatten(0, 1)
        step, seen = step + 1, seen + len(latents)
        yield latents
