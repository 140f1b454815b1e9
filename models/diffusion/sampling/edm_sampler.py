"""EDM's stochastic sampler (Karras et al. 2022, Algorithm 2) as a pure function of its denoiser."""

import math
from collections.abc import Callable, Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Denoise
from spinmeround.models.diffusion.params import SolverParams

Generators = Sequence[torch.Generator]
"""One generator per sample, so that a sample does not depend on its batch."""

SamplerCallback = Callable[[int, Tensor], Tensor | None]
"""Called with the step and the latents after it; a returned tensor replaces the latents."""


def seeded_generators(seeds: Sequence[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One generator per seed."""
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def draw_noise(shape: Sequence[int], generators: Generators, device: torch.device | str = "cpu") -> Tensor:
    """Unit normal noise; sample i of the first axis comes from generator i.

    Raises ValueError for a number of generators that differs from the number of samples.
    """
    if len(generators) != shape[0]:
        raise ValueError(f"generators: expected {shape[0]}, one per sample, got {len(generators)}")
    noise: Tensor = randn_tensor(tuple(shape), generator=list(generators), device=torch.device(device))
    return noise


def edm_sampler(
    denoise: Denoise,
    noise: Float[Tensor, " batch *shape"],
    sigmas: Float[Tensor, " level"],
    generators: Generators,
    params: SolverParams | None = None,
    callback: SamplerCallback | None = None,
) -> Float[Tensor, " batch *shape"]:
    """Integrates unit normal `noise` along the descending noise levels `sigmas`, which end at 0.

    `denoise` is D(x; s) with one noise level per sample. `callback(step, x)` runs after every step; a tensor that it
    returns replaces x.
    """
    params = params or SolverParams()
    churn = min(params.s_churn / (len(sigmas) - 1), 2**0.5 - 1)
    x, last = noise * float(sigmas[0]), None
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        sigma_hat = sigma
        if churn > 0 and params.s_tmin <= sigma <= params.s_tmax:
            sigma_hat = sigma * (1 + churn)
            added = draw_noise(x.shape, generators, x.device).to(x.dtype)
            x = x + (sigma_hat**2 - sigma**2) ** 0.5 * params.s_noise * added
        denoised = denoise(x, x.new_full((len(x),), sigma_hat))
        if params.solver == "dpmpp" and sigma_next > 0:
            last, denoised = (denoised, sigma), _extrapolated(denoised, sigma, sigma_next, last)
        slope = (x - denoised) / sigma_hat
        x_next = x + (sigma_next - sigma_hat) * slope
        if params.solver == "heun" and sigma_next > 0:
            slope_next = (x_next - denoise(x_next, x.new_full((len(x),), sigma_next))) / sigma_next
            x_next = x + (sigma_next - sigma_hat) * (slope + slope_next) / 2
        x = x_next
        replaced = None if callback is None else callback(step, x)
        x = x if replaced is None else replaced
    return x


def _extrapolated(denoised: Tensor, sigma: float, sigma_next: float, last: tuple[Tensor, float] | None) -> Tensor:
    """D at the middle of the step in ln(sigma), extrapolated from the last two evaluations: DPM-Solver++ 2M (Lu et al.
    2022, Algorithm 2)."""
    if last is None:
        return denoised
    last_denoised, last_sigma = last
    return denoised + (denoised - last_denoised) * math.log(sigma / sigma_next) / (2 * math.log(last_sigma / sigma))
