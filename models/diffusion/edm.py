"""Noise levels of the model: preconditioning, loss weight, training distribution and sampling schedule.

A network F is wrapped into a denoiser D(x; s) = c_skip(s) x + c_out(s) F(c_in(s) x; c_noise(s)) for data of unit
variance (sigma_data = 1), after Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(EDM), with the sign of v-prediction: F estimates (x_noise - s x_data) / sqrt(1 + s^2). `sigma` is the standard
deviation of the noise, in units of the latents' own; functions take it in any shape and return that shape.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from spinmeround.storage.records import FrozenModel

CLEAN_SIGMA = 0.002
"""The noise level that labels a view without noise: EDM's smallest."""


class Preconditioning(NamedTuple):
    """EDM's four scalings (Table 1), each in the shape of the noise levels."""

    c_skip: Float[Tensor, "*shape"]
    c_out: Float[Tensor, "*shape"]
    c_in: Float[Tensor, "*shape"]
    c_noise: Float[Tensor, "*shape"]


def precondition(sigma: Float[Tensor, "*shape"]) -> Preconditioning:
    """c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in = 1/sqrt(s^2+1), c_noise = ln(s)/4."""
    c_in = torch.rsqrt(sigma.square() + 1)
    return Preconditioning(c_in.square(), -sigma * c_in, c_in, noise_label(sigma))


def noise_label(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """c_noise = ln(s)/4, what the network is told of the noise level."""
    return sigma.log() / 4


def loss_weight(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """(1 + s^2)/s^2, under which the error of D weighs as much as that of F at every noise level."""
    return 1 + sigma.pow(-2)


def from_epsilon(
    epsilon: Float[Tensor, "*shape"], noisy: Float[Tensor, "*shape"], sigma: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """The F of a network that predicts the noise: both give the denoised D = x - s epsilon.

    With x = s epsilon + D this is F = (D - c_skip x)/c_out = (epsilon - s D)/sqrt(1 + s^2). Such a network reads the
    same input, because c_in x is the variance-preserving x_t of DDPM at the timestep whose noise level is s.
    """
    denoised = noisy - sigma * epsilon
    return (epsilon - sigma * denoised) * torch.rsqrt(sigma.square() + 1)


def shift_sigma(sigma: Float[Tensor, "*shape"], targets: int) -> Float[Tensor, "*shape"]:
    """Lowers the log-SNR by ln N for N views that are generated at once: s sqrt(N)."""
    if targets < 1:
        raise ValueError(f"targets: expected 1 or more views, got {targets}")
    return sigma * math.sqrt(targets)


class NoiseDistribution(FrozenModel):
    """The training noise levels: ln s ~ N(mean, std^2), before the shift for the number of targets."""

    mean: float = Field(0.7, description="Mean of ln(sigma)")
    std: float = Field(1.6, gt=0, description="Standard deviation of ln(sigma)")

    def sample(self, batch: int, *, targets: int = 1, generator: torch.Generator | None = None) -> Float[Tensor, " b"]:
        """Noise levels of `batch` samples on the CPU, the same for all `targets` views of a sample."""
        normal = torch.randn(batch, generator=generator)
        return shift_sigma((self.mean + self.std * normal).exp(), targets)


class NoiseSchedule(FrozenModel):
    """The noise levels of sampling (EDM, Equation 5): `steps` levels from sigma_max to sigma_min, then 0."""

    steps: int = Field(50, ge=1, description="How many steps")
    sigma_min: float = Field(0.002, gt=0, description="Noise level of the last step")
    sigma_max: float = Field(80.0, gt=0, description="Noise level of the first step; 700 from an identity alone")
    rho: float = Field(7.0, gt=0, description="How strongly steps gather at low noise")

    @model_validator(mode="after")
    def _ordered(self) -> "NoiseSchedule":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min: expected less than sigma_max {self.sigma_max}, got {self.sigma_min}")
        return self

    def sigmas(self) -> Float[Tensor, " level"]:
        """The `steps` + 1 noise levels in float64, falling, the last one 0."""
        ramp = torch.linspace(0, 1, self.steps, dtype=torch.float64)
        start, end = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        levels = (start + ramp * (end - start)) ** self.rho
        return torch.cat([levels, levels.new_zeros(1)])
