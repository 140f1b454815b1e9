"""Classifier-free guidance for identity and conditioning images together, one forward for both branches."""

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Conditions, Denoise, denoise
from spinmeround.models.diffusion.unet import MultiviewUNet


def guided_denoiser(
    unet: MultiviewUNet,
    conditions: Conditions,
    empty_text: Float[Tensor, "batch word state"],
    guidance_scale: float = 3.0,
) -> Denoise:
    """D_empty + scale (D_given - D_empty) at targets, the given latents at conditioning views.

    The unconditional branch has the text states of the empty prompt and zeros for the conditioning images, as in
    training (Ho & Salimans 2022). At scale 1 it is not evaluated. Raises ValueError for a negative scale.
    """
    if guidance_scale < 0:
        raise ValueError(f"guidance_scale: expected 0 or more, got {guidance_scale}; 1 turns guidance off")
    if guidance_scale == 1:
        return lambda noisy, sigma: denoise(unet, noisy, sigma, conditions)
    both = conditions.joined(conditions.unconditional(empty_text))
    given = conditions.conditioning[..., None, None, None]

    def guided(noisy: Tensor, sigma: Tensor) -> Tensor:
        with_conditions, without = denoise(unet, torch.cat([noisy] * 2), torch.cat([sigma] * 2), both).chunk(2)
        return torch.where(given, conditions.clean, without + guidance_scale * (with_conditions - without))

    return guided
