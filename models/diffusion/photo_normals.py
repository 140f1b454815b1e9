"""Normals of a photo from the diffusion model itself: the paper's Algorithm 1.

The model knows the joint distribution of a view's image and normals. Both halves are sampled from noise, and at each
step the denoised latents move down the gradient of the distance between their image half and the photo's latent; the
mask of that distance leaves the normals free. The noise levels are those of Stable Diffusion's DDPM schedule at evenly
spaced timesteps.

The paper gives the scale, 1e4, and neither how the distance is reduced nor how a step's gradient is weighted. What the
gradient is to do is known: with J the derivative of the denoised latents, the conditional denoiser is D - J_x z, where
z solves J_xx z = D_x - photo over the image half x, if latents are normally distributed (Boys et al. 2023, "Tweedie
Moment Projected Diffusions", with an exact observation). The gradient of the distance is J_x (D_x - photo), so it is
the first step of an iterative solution, whose length is known too. The solver is the generalised conjugate residual
method (Eisenstat, Elman and Schultz 1983), `corrections` steps of it, each with one more gradient: J is symmetric for
the ideal denoiser only, and under this method the image half never moves away from the photo, whatever J is. A fixed
weight would be too long where latents vary much, and diverge, and too short where they vary little. `scale` / 1e4 is
the share of the way to the photo that is gone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Denoise
from spinmeround.storage.records import FrozenModel

PAPER_SCALE = 1e4


class PhotoNormalsParams(FrozenModel):
    """How the normals of a photo are inferred. The defaults are the paper's."""

    steps: int = Field(50, ge=2, le=1000, description="Steps of the DDPM schedule")
    scale: float = Field(PAPER_SCALE, ge=0.0, description="Strength of the guidance; the paper's goes to the photo")
    corrections: int = Field(1, ge=1, description="Gradients a step; more bring the image half nearer to the photo")
    draws: int = Field(1, ge=1, description="Samples; the mean is taken of the half of them that fits the photo best")


def ddpm_sigmas(steps: int) -> Float[Tensor, " level"]:
    """Noise levels of Stable Diffusion's schedule at `steps` timesteps from 999 to 0, then 0, in float64."""
    alphas = stable_diffusion_alphas()[np.linspace(999, 0, steps).round().astype(int)]
    return torch.cat([((1 - alphas) / alphas).sqrt(), alphas.new_zeros(1)])


def stable_diffusion_alphas() -> Float[Tensor, "1000"]:
    """Cumulative products of 1 - beta of the schedule that Stable Diffusion 1.5 is trained with, in float64."""
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alphas: Tensor = scheduler.alphas_cumprod
    return alphas.double()


class NormalLatents(NamedTuple):
    """Latents of normals, and how far the denoised image half was from the photo: its mean square over all steps. A
    sample that took the head for turned another way never explains the photo well."""

    latents: Float[Tensor, "batch channel height width"]
    misfit: Float[Tensor, " batch"]


def mean_of_best(draws: Sequence[NormalLatents]) -> Float[Tensor, "batch channel height width"]:
    """The mean of the half of the draws, rounded up, that misfit least; for each of the batch its own half."""
    latents = torch.stack([draw.latents for draw in draws])
    best = torch.stack([draw.misfit for draw in draws]).argsort(dim=0)[: (len(draws) + 1) // 2]  # draw batch
    return torch.take_along_dim(latents, best[..., None, None, None], dim=0).mean(dim=0)


def infer_normal_latents(
    denoise: Denoise,
    images: Float[Tensor, "batch channel height width"],
    noise: Float[Tensor, "batch 1 both height width"],
    params: PhotoNormalsParams,
    callback: Callable[[int, Tensor], Tensor | None] | None = None,
) -> NormalLatents:
    """Latents of the normals that go with the latents of images; `noise` is unit normal.

    `denoise` takes each view as a group of one, and is differentiated, whatever the caller's grad mode. `callback` is
    called after each step with its number and the latents of both halves, and may return others to go on with.
    """
    sigmas, channels = ddpm_sigmas(params.steps).tolist(), images.shape[1]
    strength = params.scale / PAPER_SCALE
    x: Tensor = noise * (1 + sigmas[0] ** 2) ** 0.5
    misfit = images.new_zeros(len(images))
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = denoise(x, x.new_full((len(x),), sigma))
            way = _way_to(images, denoised[:, 0, :channels], x, params.corrections)
        x, denoised = x.detach(), denoised.detach()  # the graph is not to outlive its step
        misfit = misfit + (denoised[:, 0, :channels] - images).square().mean(dim=(1, 2, 3)) / params.steps
        x = x + (sigma_next - sigma) * (x - denoised + strength * way) / sigma
        replaced = callback(step, x) if callback is not None else None
        x = x if replaced is None else replaced
    return NormalLatents(x[:, 0, channels:], misfit)


def _way_to(
    images: Float[Tensor, "batch channel height width"],
    found: Float[Tensor, "batch channel height width"],
    x: Float[Tensor, "batch 1 both height width"],
    corrections: int,
) -> Float[Tensor, "batch 1 both height width"]:
    """J_x z, as the module says; `found`, the denoised image half, is a function of `x`, whose graph is used up."""
    rest, way = (found - images).detach(), torch.zeros_like(x)
    tiny, channels = torch.finfo(rest.dtype).tiny, images.shape[1]
    steps: list[Tensor] = []
    for number in range(corrections):
        (step,) = torch.autograd.grad(found, x, rest, retain_graph=number < corrections - 1)
        for earlier in steps:
            half, other = step[:, 0, :channels], earlier[:, 0, :channels]
            step = step - (_dot(half, other) / _dot(other, other).clamp_min(tiny))[:, None] * earlier
        half = step[:, 0, :channels]
        length = _dot(rest, half) / _dot(half, half).clamp_min(tiny)
        way, rest = way + length[:, None] * step, rest - length * half
        steps.append(step)
    return way


def _dot(
    a: Float[Tensor, "batch channel height width"], b: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "batch 1 1 1"]:
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
