"""The denoiser D(x; s) of a group of views: conditioning views are held clean, targets are denoised.

A group is P views of one head in any order. The network sees conditioning views as clean latents, unscaled, with the
noise label of `CLEAN_SIGMA` and mask 1; it sees targets as c_in x with the label of s and mask 0.
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
    """All that a denoiser knows of a batch of groups besides the noisy latents."""

    conditioning: Bool[Tensor, "batch view"]
    """Which views are given; the others are targets."""

    clean: Float[Tensor, "batch view channel height width"]
    """Latents of the conditioning views (image, then normals), scaled as the network's; ignored at targets."""

    rays: Float[Tensor, "batch view ray height width"]
    text: Float[Tensor, "batch word state"]

    def dropped(
        self,
        *,
        identity: Bool[Tensor, " batch"],
        images: Bool[Tensor, " batch"],
        empty_text: Float[Tensor, "batch word state"],
    ) -> "Conditions":
        """Without the identity of some samples (the empty prompt's states) and the images of some (zero latents)."""
        return replace(
            self,
            text=torch.where(rearrange(identity, "b -> b 1 1"), empty_text, self.text),
            clean=self.clean * rearrange(~images, "b -> b 1 1 1 1"),
        )

    def unconditional(self, empty_text: Float[Tensor, "batch word state"]) -> "Conditions":
        """Neither identity nor conditioning images; cameras and mask stay."""
        everyone = torch.ones(len(self.text), dtype=torch.bool, device=self.text.device)
        return self.dropped(identity=everyone, images=everyone, empty_text=empty_text)

    def joined(self, other: "Conditions") -> "Conditions":
        """The samples of both, one batch."""
        return Conditions(
            conditioning=torch.cat([self.conditioning, other.conditioning]),
            clean=torch.cat([self.clean, other.clean]),
            rays=torch.cat([self.rays, other.rays]),
            text=torch.cat([self.text, other.text]),
        )


def denoise(
    unet: MultiviewUNet,
    noisy: Float[Tensor, "batch view channel height width"],
    sigma: Float[Tensor, " batch"],
    conditions: Conditions,
) -> Float[Tensor, "batch view channel height width"]:
    """D(x; s) at targets, the given latents at conditioning views (where `noisy` is ignored)."""
    given = rearrange(conditions.conditioning, "b p -> b p 1 1 1")
    scale = precondition(rearrange(sigma, "b -> b 1 1 1 1"))
    clean_label = noise_label(torch.full_like(sigma, CLEAN_SIGMA))
    output = unet(
        torch.where(given, conditions.clean, scale.c_in * noisy).to(unet.dtype),
        torch.where(conditions.conditioning, clean_label[:, None], noise_label(sigma)[:, None]),
        mask=given.to(unet.dtype).expand(-1, -1, 1, *noisy.shape[-2:]),
        rays=conditions.rays.to(unet.dtype),
        text=conditions.text.to(unet.dtype),
    )
    denoised = scale.c_skip * noisy + scale.c_out * output.to(noisy.dtype)
    return torch.where(given, conditions.clean, denoised)
