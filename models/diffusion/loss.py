"""The training loss of one batch of groups, and which conditions training drops.

Noise is on targets only; conditioning views are clean. The loss is (1 + s^2)/s^2 |D(x; s) - x_0|^2 over targets,
which is the plain squared error of the network's own output.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Conditions, denoise
from spinmeround.models.diffusion.edm import loss_weight
from spinmeround.models.diffusion.unet import MultiviewUNet


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Clean groups of views with their conditions; samples may differ in which views are conditioning."""

    latents: Float[Tensor, "batch view channel height width"]
    """Image latents, then normal latents, scaled to unit variance."""

    conditioning: Bool[Tensor, "batch view"]
    rays: Float[Tensor, "batch view ray height width"]
    text: Float[Tensor, "batch word state"]
    empty_text: Float[Tensor, "batch word state"]
    drop_identity: Bool[Tensor, " batch"]
    drop_images: Bool[Tensor, " batch"]

    def conditions(self) -> Conditions:
        """What the network may know, after the drops."""
        everything = Conditions(conditioning=self.conditioning, clean=self.latents, rays=self.rays, text=self.text)
        return everything.dropped(identity=self.drop_identity, images=self.drop_images, empty_text=self.empty_text)


class Loss(NamedTuple):
    """`mean` is what to minimise: the mean over samples of `per_sample`."""

    mean: Float[Tensor, ""]
    per_sample: Float[Tensor, " batch"]


def sample_drops(
    batch: int, probability: float, generator: torch.Generator | None = None, *, identity_alone: float = 0.0
) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Which samples lose their identity and which their conditioning images, on the CPU.

    Both are lost together with this probability, since guidance needs the network without either. With the probability
    `identity_alone` a sample loses only its identity, as a photo of nobody known; where no view is given, it is then
    without any condition, as a photo of nobody known is while its normals are inferred.
    """
    drawn = torch.rand(batch, generator=generator)
    return drawn < probability + identity_alone, drawn < probability


def multiview_loss(
    unet: MultiviewUNet,
    batch: TrainingBatch,
    sigma: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch view channel height width"],
) -> Loss:
    """Weighted squared error of the denoised targets; `noise` is unit normal, ignored at conditioning views.

    Raises ValueError for a sample without a target.
    """
    targets = ~batch.conditioning
    if not bool(targets.any(dim=1).all()):
        raise ValueError("conditioning: expected at least one target view in every sample, got a sample with none")
    noisy = batch.latents + rearrange(sigma, "b -> b 1 1 1 1") * noise
    denoised = denoise(unet, noisy, sigma, batch.conditions())
    error = reduce((denoised - batch.latents).float().square(), "b p c h w -> b p", "mean")
    per_sample = loss_weight(sigma) * (error * targets).sum(dim=1) / targets.sum(dim=1)
    return Loss(per_sample.mean(), per_sample)
