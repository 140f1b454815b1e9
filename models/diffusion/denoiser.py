"""The denoiser D(x; s) of a group of views: conditioning views stay clean, targets are denoised.

A group is P views of one head in any order. The network receives conditioning views as clean, unscaled latents with the
noise label of `CLEAN_SIGMA` and mask 1, and targets as c_in x with the label of s and mask 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from spinmeround.models.diffusion.edm import CLEAN_SIGMA, noise_label, precondition
from spinmeround.models.diffusion.unet import MultiviewUNet

Denoise = Callable[[Tensor, Tensor], Tensor]
"""D(x; s): noisy latents [batch view channel height width] and noise levels [batch] to denoised latents."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """All inputs of the denoiser, for a batch of groups, other than noisy latents and noise levels."""

    is_conditioning: Bool[Tensor, "batch view"]
    """True at conditioning views, False at targets."""

    conditioning_latents: Float[Tensor, "batch view channel height width"]
    """Latents of the conditioning views (image, then normals), scaled as the network's; ignored at targets."""

    rays: Float[Tensor, "batch view ray height width"]
    prompt_embeds: Float[Tensor, "batch text_token text_channel"]

    def dropped(
        self,
        *,
        identity: Bool[Tensor, " batch"],
        images: Bool[Tensor, " batch"],
        empty_prompt_embeds: Float[Tensor, "batch text_token text_channel"],
    ) -> "Conditions":
        """Drops the identity (empty prompt) and the conditioning images (zero latents) of the masked samples."""
        return replace(
            self,
            prompt_embeds=torch.where(rearrange(identity, "b -> b 1 1"), empty_prompt_embeds, self.prompt_embeds),
            conditioning_latents=self.conditioning_latents * rearrange(~images, "b -> b 1 1 1 1"),
        )

    def unconditional(self, empty_prompt_embeds: Float[Tensor, "batch text_token text_channel"]) -> "Conditions":
        """Drops identity and conditioning images of all samples; rays and mask stay."""
        everything = torch.ones(len(self.prompt_embeds), dtype=torch.bool, device=self.prompt_embeds.device)
        return self.dropped(identity=everything, images=everything, empty_prompt_embeds=empty_prompt_embeds)

    def joined(self, other: "Conditions") -> "Conditions":
        """The samples of both in one batch."""
        return Conditions(
            is_conditioning=torch.cat([self.is_conditioning, other.is_conditioning]),
            conditioning_latents=torch.cat([self.conditioning_latents, other.conditioning_latents]),
            rays=torch.cat([self.rays, other.rays]),
            prompt_embeds=torch.cat([self.prompt_embeds, other.prompt_embeds]),
        )


def denoise(
    unet: MultiviewUNet,
    noisy: Float[Tensor, "batch view channel height width"],
    sigma: Float[Tensor, " batch"],
    conditions: Conditions,
) -> Float[Tensor, "batch view channel height width"]:
    """D(x; s) at targets, the given latents at conditioning views, where `noisy` is ignored."""
    is_conditioning = rearrange(conditions.is_conditioning, "b p -> b p 1 1 1")
    scale = precondition(rearrange(sigma, "b -> b 1 1 1 1"))
    clean_label = noise_label(torch.full_like(sigma, CLEAN_SIGMA))
    output = unet(
        torch.where(is_conditioning, conditions.conditioning_latents, scale.c_in * noisy).to(unet.dtype),
        torch.where(conditions.is_conditioning, clean_label[:, None], noise_label(sigma)[:, None]),
        mask=is_conditioning.to(unet.dtype).expand(-1, -1, 1, *noisy.shape[-2:]),
        rays=conditions.rays.to(unet.dtype),
        encoder_hidden_states=conditions.prompt_embeds.to(unet.dtype),
    )
    denoised = scale.c_skip * noisy + scale.c_out * output.to(noisy.dtype)
    return torch.where(is_conditioning, conditions.conditioning_latents, denoised)
