"""Normals of a photo from the diffusion model itself: the paper's Algorithm 1.

The model represents the joint distribution of a view's image and normals. Both halves are sampled from noise. At each
step the denoised latents move down the gradient of the distance between their image half and the photo's latent; the
mask of that distance leaves the normals free. Noise levels are those of Stable Diffusion's DDPM schedule at evenly
spaced timesteps.

`guidance` selects the step along the gradient:

    paper      x - s grad |D(x) - photo|^2 with the scale s of 1e4 and the mean over the masked latent, in Stable
               Diffusion's coordinates x / sqrt(1 + sigma^2). The paper prints +s, which ascends; this one descends.
    projected  the conditional denoiser that the gradient approximates, by default

For the second, with J the derivative of the denoised latents, the conditional denoiser is D - J_x z, where z
solves J_xx z = D_x - photo over the image half x, if latents are normally distributed (Boys et al. 2023, "Tweedie
Moment Projected Diffusions", with an exact observation). The gradient of the distance, J_x (D_x - photo), is the first
step of an iterative solution, which also gives its length. The solver is the generalised conjugate residual method
(Eisenstat, Elman and Schultz 1983) with `corrections` iterations of one gradient each: J is symmetric only for the
ideal denoiser, and this method never increases the residual of the image half, whatever J is. The length of the paper's
step depends on the number of latent pixels and on how much each varies; that of this one does not. `scale` / 1e4 is the
share of the correction that is applied.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Denoise
from spinmeround.models.diffusion.params import PAPER_SCALE, PhotoNormalsParams


def ddpm_sigmas(steps: int) -> Float[Tensor, " level"]:
    """Noise levels of Stable Diffusion's schedule at `steps` timesteps from 999 to 0, then 0, in float64."""
    alphas = stable_diffusion_alphas()[np.linspace(999, 0, steps).round().astype(int)]
    return torch.cat([((1 - alphas) / alphas).sqrt(), alphas.new_zeros(1)])


def stable_diffusion_alphas() -> Float[Tensor, "1000"]:
    """Cumulative products of 1 - beta of Stable Diffusion 1.5's training schedule, in float64."""
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alphas: Tensor = scheduler.alphas_cumprod
    return alphas.double()


class NormalLatents(NamedTuple):
    """Latents of normals and the mean squared distance of the denoised image half to the photo, over all steps.

    A large `misfit` marks a sample with the head in a wrong pose, which never matches the photo well.
    """

    latents: Float[Tensor, "batch channel height width"]
    misfit: Float[Tensor, " batch"]


def mean_of_best_half(draws: Sequence[NormalLatents]) -> Float[Tensor, "batch channel height width"]:
    """Mean of the half of the draws, rounded up, with the smallest misfit, selected per batch sample."""
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
    """Latents of the normals that belong to image latents; `noise` is unit normal.

    `denoise` receives each view as a group of one and is differentiated, whatever the caller's grad mode. `callback`
    runs after each step with its number and the latents of both halves; a returned tensor replaces them.
    """
    sigmas, channels = ddpm_sigmas(params.steps).tolist(), images.shape[1]
    x: Tensor = noise * (1 + sigmas[0] ** 2) ** 0.5
    misfit = images.new_zeros(len(images))
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = denoise(x, x.new_full((len(x),), sigma))
            if params.guidance == "paper":
                shift = _paper_shift(images, denoised[:, 0, :channels], x, (sigma, sigma_next), params.scale)
            else:
                correction = _correction(images, denoised[:, 0, :channels], x, params.corrections)
                shift = (sigma_next - sigma) * params.scale / PAPER_SCALE * correction / sigma
        x, denoised = x.detach(), denoised.detach()  # frees the graph of this step
        misfit = misfit + (denoised[:, 0, :channels] - images).square().mean(dim=(1, 2, 3)) / params.steps
        x = x + (sigma_next - sigma) * (x - denoised) / sigma + shift
        replaced = callback(step, x) if callback is not None else None
        x = x if replaced is None else replaced
    return NormalLatents(x[:, 0, channels:], misfit)


def _paper_shift(
    images: Float[Tensor, "batch channel height width"],
    denoised: Float[Tensor, "batch channel height width"],
    x: Float[Tensor, "batch 1 both height width"],
    sigmas: tuple[float, float],
    scale: float,
) -> Float[Tensor, "batch 1 both height width"]:
    """The paper's step, of Stable Diffusion's coordinates v = x / sqrt(1 + sigma^2), as a shift of x at the next level;
    consumes the graph of `denoised`."""
    distance = (denoised - images).square().mean(dim=(1, 2, 3)).sum()  # samples are independent
    (gradient,) = torch.autograd.grad(distance, x)
    to_v, from_v = ((1 + sigma**2) ** 0.5 for sigma in sigmas)
    shift: Tensor = -scale * from_v * to_v * gradient
    return shift


def _correction(
    images: Float[Tensor, "batch channel height width"],
    denoised: Float[Tensor, "batch channel height width"],
    x: Float[Tensor, "batch 1 both height width"],
    iterations: int,
) -> Float[Tensor, "batch 1 both height width"]:
    """J_x z as in the module docstring; consumes the graph of `denoised`, the denoised image half as a function of
    `x`."""
    residual, correction = (denoised - images).detach(), torch.zeros_like(x)
    tiny, channels = torch.finfo(residual.dtype).tiny, images.shape[1]
    directions: list[Tensor] = []
    for iteration in range(iterations):
        (direction,) = torch.autograd.grad(denoised, x, residual, retain_graph=iteration < iterations - 1)
        for earlier in directions:
            half, other = direction[:, 0, :channels], earlier[:, 0, :channels]
            direction = direction - (_dot(half, other) / _dot(other, other).clamp_min(tiny))[:, None] * earlier
        half = direction[:, 0, :channels]
        length = _dot(residual, half) / _dot(half, half).clamp_min(tiny)
        correction, residual = correction + length[:, None] * direction, residual - length * half
        directions.append(direction)
    return correction


def _dot(
    a: Float[Tensor, "batch channel height width"], b: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "batch 1 1 1"]:
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
