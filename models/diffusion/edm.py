"""Noise levels: preconditioning, loss weight, training distribution and sampling schedule.

A network F is wrapped into a denoiser D(x; s) = c_skip(s) x + c_out(s) F(c_in(s) x; c_noise(s)) for data of unit
variance (sigma_data = 1), after Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(EDM), with the sign of v-prediction: F estimates (x_noise - s x_data) / sqrt(1 + s^2). `sigma` is the standard
deviation of the noise in units of the latents. Functions of `sigma` accept any shape and return that shape.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.params import NoiseDistribution, NoiseSchedule

CLEAN_SIGMA = 0.002
"""Noise level that labels a view without noise: EDM's smallest."""


class Preconditioning(NamedTuple):
    """EDM's four scalings (Table 1), in the shape of the noise levels."""

    c_skip: Float[Tensor, "*shape"]
    c_out: Float[Tensor, "*shape"]
    c_in: Float[Tensor, "*shape"]
    c_noise: Float[Tensor, "*shape"]


def precondition(sigma: Float[Tensor, "*shape"]) -> Preconditioning:
    """c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in = 1/sqrt(s^2+1), c_noise = ln(s)/4."""
    c_in = torch.rsqrt(sigma.square() + 1)
    return Preconditioning(c_in.square(), -sigma * c_in, c_in, noise_label(sigma))


def noise_label(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """c_noise = ln(s)/4, the network's noise level input."""
    return sigma.log() / 4


def loss_weight(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """(1 + s^2)/s^2, which makes the weighted error of D equal to the error of F at every noise level."""
    return 1 + sigma.pow(-2)


def from_epsilon(
    epsilon: Float[Tensor, "*shape"], noisy: Float[Tensor, "*shape"], sigma: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """F from a noise prediction, such that both give the same denoised D = x - s epsilon.

    With x = s epsilon + D this is F = (D - c_skip x)/c_out = (epsilon - s D)/sqrt(1 + s^2). Both networks read the
    same input, because c_in x is DDPM's variance-preserving x_t at the timestep whose noise level is s.
    """
    denoised = noisy - sigma * epsilon
    return (epsilon - sigma * denoised) * torch.rsqrt(sigma.square() + 1)


def shift_sigma(sigma: Float[Tensor, "*shape"], targets: int) -> Float[Tensor, "*shape"]:
    """s sqrt(N), which lowers the log-SNR by ln N for N views that are generated together."""
    if targets < 1:
        raise ValueError(f"targets: expected 1 or more views, got {targets}")
    return sigma * math.sqrt(targets)


def sample_sigmas(
    distribution: NoiseDistribution, batch: int, *, targets: int = 1, generator: torch.Generator | None = None
) -> Float[Tensor, " batch"]:
    """Training noise levels of `batch` samples, on the CPU; all `targets` views of a sample share one level."""
    normal = torch.randn(batch, generator=generator)
    return shift_sigma((distribution.mean + distribution.std * normal).exp(), targets)


def schedule_sigmas(
    schedule: NoiseSchedule, *, conditioning_views: int = 1, targets: int = 1
) -> Float[Tensor, " level"]:
    """The `schedule.steps` + 1 sampling noise levels (EDM, Equation 5) in float64, descending to 0.

    They are those of groups with so many conditioning views and targets: a schedule with `shift` is multiplied by the
    factor that training multiplies its noise levels by. Raises ValueError for less than one target.
    """
    ramp = torch.linspace(0, 1, schedule.steps, dtype=torch.float64)
    start, end = schedule.highest(conditioning_views) ** (1 / schedule.rho), schedule.sigma_min ** (1 / schedule.rho)
    levels = (start + ramp * (end - start)) ** schedule.rho
    return torch.cat([shift_sigma(levels, targets) if schedule.shift else levels, levels.new_zeros(1)])
