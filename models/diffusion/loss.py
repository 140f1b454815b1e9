"""The training loss of a batch of groups, and condition dropout.

Noise is on targets only; conditioning views are clean. The loss is (1 + s^2)/s^2 |D(x; s) - x_0|^2 over targets,
which equals the squared error of the network's own output F.
"""

from dataclasses import dataclass, replace
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
    """Clean groups of views with their conditions; samples may differ in their conditioning views."""

    latents: Float[Tensor, "batch view channel height width"]
    """Image latents, then normal latents unless the model has none, as the autoencoder scales them."""

    is_conditioning: Bool[Tensor, "batch view"]
    rays: Float[Tensor, "batch view ray height width"]
    prompt_embeds: Float[Tensor, "batch text_token text_channel"]
    empty_prompt_embeds: Float[Tensor, "batch text_token text_channel"]
    drop_identity: Bool[Tensor, " batch"]
    drop_images: Bool[Tensor, " batch"]
    has_normals: Bool[Tensor, " batch"] | None = None
    """Samples whose normal latents are those of normals, None: all. Others have the latents of background."""

    def conditions(self) -> Conditions:
        """The conditions after condition dropout."""
        everything = Conditions(
            is_conditioning=self.is_conditioning,
            conditioning_latents=self.latents,
            rays=self.rays,
            prompt_embeds=self.prompt_embeds,
        )
        return everything.dropped(
            identity=self.drop_identity, images=self.drop_images, empty_prompt_embeds=self.empty_prompt_embeds
        )


class Loss(NamedTuple):
    """`mean`, which training minimises, is the mean of `per_half`: the losses of the image and of the normals.

    That of the normals is 0 for samples without any, so their image weighs as much as that of other samples. A model
    without normals has the loss of the image alone.
    """

    mean: Float[Tensor, ""]
    per_half: Float[Tensor, "batch half"]


def sample_condition_dropout(
    batch: int, probability: float, generator: torch.Generator | None = None, *, identity_alone: float = 0.0
) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Masks of the samples that lose their identity, and of those that lose their conditioning images, on the CPU.

    With `probability` a sample loses both, as the unconditional branch of guidance does. With `identity_alone` it loses
    only its identity, as for a photo of an unknown person. Without conditioning views that leaves no condition at all,
    as in the inference of that photo's normals.
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

    Latents are normalised by the model's statistics, if it has any. Raises ValueError for a sample without a target.
    """
    targets = ~batch.is_conditioning
    if not bool(targets.any(dim=1).all()):
        raise ValueError("is_conditioning: expected at least one target view in every sample, got a sample with none")
    batch = replace(batch, latents=unet.normalised(batch.latents))
    noisy = batch.latents + rearrange(sigma, "b -> b 1 1 1 1") * noise
    denoised = denoise(unet, noisy, sigma, batch.conditions())
    error = reduce((denoised - batch.latents).float().square(), "b p (k c) h w -> b p k", "mean", k=unet.halves)
    per_half = (error * targets[..., None]).sum(dim=1) / targets.sum(dim=1, keepdim=True)
    weighted = loss_weight(sigma)[:, None] * per_half
    if batch.has_normals is not None and unet.has_normals:
        weighted = weighted * torch.stack([torch.ones_like(batch.has_normals), batch.has_normals], dim=1)
    return Loss(weighted.mean(), weighted)
