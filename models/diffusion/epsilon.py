"""A noise-predicting Stable Diffusion UNet under EDM's preconditioning: what the adapted model should equal at first.

At the noise level of one of its timesteps such a network sees the very input that it was trained on, because c_in x is
the variance-preserving x_t; between timesteps it is told the interpolated one.
"""

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.edm import from_epsilon, precondition
from spinmeround.models.diffusion.photo_normals import stable_diffusion_alphas


def stable_diffusion_timestep(sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The timestep of a noise level, between timesteps by interpolation of ln(sigma); ends hold outside of 0 to 999."""
    alphas = stable_diffusion_alphas()
    known = ((1 - alphas) / alphas).sqrt().log().numpy()
    found = np.interp(sigma.double().log().cpu().numpy(), known, np.arange(len(known), dtype=np.float64))
    return torch.from_numpy(found).to(sigma)


@torch.no_grad()
def epsilon_denoiser_output(
    unet: UNet2DConditionModel,
    noisy: Float[Tensor, "batch channel height width"],
    sigma: Float[Tensor, " batch"],
    text: Float[Tensor, "batch word state"],
) -> Float[Tensor, "batch channel height width"]:
    """F of the preconditioned denoiser, from the network's noise prediction at c_in x and the level's timestep."""
    level = sigma[:, None, None, None]
    scaled = (precondition(level).c_in * noisy).to(unet.dtype)
    epsilon = unet(scaled, stable_diffusion_timestep(sigma), encoder_hidden_states=text.to(unet.dtype)).sample
    return from_epsilon(epsilon.to(noisy.dtype), noisy, level)
