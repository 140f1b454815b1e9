"""Classifier-free guidance over identity and conditioning images together, with both branches in one forward pass."""

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Conditions, Denoise, denoise
from spinmeround.models.diffusion.unet import MultiviewUNet


def guided_denoiser(
    unet: MultiviewUNet,
    conditions: Conditions,
    empty_prompt_embeds: Float[Tensor, "batch text_token text_channel"],
    guidance_scale: float = 3.0,
) -> Denoise:
    """D_uncond + scale (D_cond - D_uncond) at targets, the given latents at conditioning views (Ho & Salimans 2022).

    As in training, the unconditional branch has the embeddings of the empty prompt and zero conditioning latents. At
    scale 1 it is not evaluated. Raises ValueError for a negative scale.
    """
    if guidance_scale < 0:
        raise ValueError(f"guidance_scale: expected 0 or more, got {guidance_scale}; 1 disables guidance")
    if guidance_scale == 1:
        return lambda noisy, sigma: denoise(unet, noisy, sigma, conditions)
    both = conditions.joined(conditions.unconditional(empty_prompt_embeds))
    is_conditioning = conditions.is_conditioning[..., None, None, None]

    def guided(noisy: Tensor, sigma: Tensor) -> Tensor:
        cond, uncond = denoise(unet, torch.cat([noisy] * 2), torch.cat([sigma] * 2), both).chunk(2)
        return torch.where(is_conditioning, conditions.conditioning_latents, uncond + guidance_scale * (cond - uncond))

    return guided
