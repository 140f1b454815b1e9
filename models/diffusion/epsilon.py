"""A noise-predicting Stable Diffusion UNet under EDM's preconditioning: the reference for the adapted model.

At the noise level of a DDPM timestep such a network receives exactly its training input, because c_in x is the
variance-preserving x_t. Between timesteps its timestep input is interpolated.
"""

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.edm import from_epsilon, precondition
from spinmeround.models.diffusion.sampling.photo_normals import stable_diffusion_alphas


def stable_diffusion_timestep(sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The timestep of a noise level, interpolated in ln(sigma) and clamped to 0 to 999."""
    alphas = stable_diffusion_alphas()
    known = ((1 - alphas) / alphas).sqrt().log().numpy()
    found = np.interp(sigma.double().log().cpu().numpy(), known, np.arange(len(known), dtype=np.float64))
    return torch.from_numpy(found).to(sigma)


@torch.no_grad()
def epsilon_denoiser_output(
    unet: UNet2DConditionModel,
    noisy: Float[Tensor, "batch channel height width"],
    sigma: Float[Tensor, " batch"],
    prompt_embeds: Float[Tensor, "batch text_token text_channel"],
) -> Float[Tensor, "batch channel height width"]:
    """F of the preconditioned denoiser, from the noise prediction at c_in x and the timestep of sigma."""
    level = sigma[:, None, None, None]
    scaled = (precondition(level).c_in * noisy).to(unet.dtype)
    timestep = stable_diffusion_timestep(sigma)
    epsilon = unet(scaled, timestep, encoder_hidden_states=prompt_embeds.to(unet.dtype)).sample
    return from_epsilon(epsilon.to(noisy.dtype), noisy, level)
