"""Normals of a photo from the diffusion model itself: the paper's Algorithm 1.

The model knows the joint distribution of a view's image and normals. Both halves are sampled from noise, and at each
step the denoised latents move down the gradient of the distance between their image half and the photo's latent; the
mask of that distance leaves the normals free. The noise levels are those of Stable Diffusion's DDPM schedule at evenly
spaced timesteps.

The paper gives the scale, 1e4, and neither how the distance is reduced nor how a step's gradient is weighted. Here the
distance is the mean over an image latent of the paper's size (4 x 64 x 64), and the gradient is weighted by 1 + s^2.
Both are read from the case that has a closed form: where image and normals are normally distributed with unit variance,
D + (1 + s^2) / 2 times the negative gradient of the squared sum is the exact conditional denoiser, and 1e4 / (4 * 64 *
64) = 0.61 is next to that half. So the scale means the same at every noise level and latent size.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.diffusion.denoiser import Denoise

PAPER_IMAGE_LATENT = 4 * 64 * 64


class PhotoNormalsParams(BaseModel):
    """How the normals of a photo are inferred. The defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(50, ge=2, le=1000, description="Steps of the DDPM schedule")
    scale: float = Field(1e4, ge=0.0, description="Strength of the guidance towards the photo")


def ddpm_sigmas(steps: int) -> Float[Tensor, " level"]:
    """Noise levels of Stable Diffusion's schedule at `steps` timesteps from 999 to 0, then 0, in float64."""
    alphas = stable_diffusion_alphas()[np.linspace(999, 0, steps).round().astype(int)]
    return torch.cat([((1 - alphas) / alphas).sqrt(), alphas.new_zeros(1)])


def stable_diffusion_alphas() -> Float[Tensor, "1000"]:
    """Cumulative products of 1 - beta of the schedule that Stable Diffusion 1.5 is trained with, in float64."""
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alphas: Tensor = scheduler.alphas_cumprod
    return alphas.double()


def infer_normal_latents(
    denoise: Denoise,
    images: Float[Tensor, "batch channel height width"],
    noise: Float[Tensor, "batch 1 both height width"],
    params: PhotoNormalsParams,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """Latents of the normals that go with the latents of images; `noise` is unit normal.

    `denoise` takes each view as a group of one, and is differentiated, whatever the caller's grad mode.
    """
    sigmas, channels = ddpm_sigmas(params.steps).tolist(), images.shape[1]
    strength = params.scale / PAPER_IMAGE_LATENT
    x: Tensor = noise * (1 + sigmas[0] ** 2) ** 0.5
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = denoise(x, x.new_full((len(x),), sigma))
            distance = (denoised[:, 0, :channels] - images).square().sum()
            (gradient,) = torch.autograd.grad(distance, x)
        guided = denoised.detach() - strength * (1 + sigma**2) * gradient
        x = x.detach() + (sigma_next - sigma) * (x.detach() - guided) / sigma
        if callback is not None:
            callback(step, x)
    return x[:, 0, channels:]
