import math
from statistics import NormalDist

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler

from spinmeround.models.diffusion.edm import (
    from_epsilon,
    loss_weight,
    noise_label,
    precondition,
    sample_sigmas,
    schedule_sigmas,
    shift_sigma,
)
from spinmeround.models.diffusion.params import NoiseDistribution, NoiseSchedule

pytestmark = pytest.mark.fast
SIGMAS = (0.002, 0.05, 1.0, 14.6, 80.0, 700.0)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_preconditioning_closed_forms(sigma: float) -> None:
    """The four scalings and the loss weight equal their formulas in Python floats."""
    got = precondition(torch.tensor([sigma], dtype=torch.float64))
    assert got.c_skip.item() == pytest.approx(1 / (sigma**2 + 1), rel=1e-12)
    assert got.c_out.item() == pytest.approx(-sigma / math.sqrt(sigma**2 + 1), rel=1e-12)
    assert got.c_in.item() == pytest.approx(1 / math.sqrt(sigma**2 + 1), rel=1e-12)
    assert got.c_noise.item() == pytest.approx(0.25 * math.log(sigma), rel=1e-12)
    weight = loss_weight(torch.tensor([sigma], dtype=torch.float64)).item()
    assert weight == pytest.approx((1 + sigma**2) / sigma**2, rel=1e-12)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_preconditioning_equals_edm_euler_scheduler(sigma: float) -> None:
    """Scalings of inputs, noise and outputs equal those of diffusers' scheduler with sigma_data 1 and v-prediction."""
    scheduler = EDMEulerScheduler(sigma_data=1.0, prediction_type="v_prediction")
    x, output = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.full((2, 3), 0.3)
    level = torch.tensor(sigma)
    ours = precondition(level)
    torch.testing.assert_close(ours.c_in * x, scheduler.precondition_inputs(x, level))
    torch.testing.assert_close(ours.c_noise, scheduler.precondition_noise(level))
    denoised = scheduler.precondition_outputs(x, output, level)
    torch.testing.assert_close(ours.c_skip * x + ours.c_out * output, denoised)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_network_input_and_output_have_unit_variance(sigma: float) -> None:
    """For data of unit variance, c_in x and the ideal output (D - c_skip x)/c_out both have unit variance, and the
    weight times c_out^2 is 1 (EDM, Appendix B.6)."""
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    level = torch.tensor(sigma, dtype=torch.float64)
    scale, noisy = precondition(level), data + sigma * noise
    assert (scale.c_in * noisy).std().item() == pytest.approx(1, abs=0.01)
    assert ((data - scale.c_skip * noisy) / scale.c_out).std().item() == pytest.approx(1, abs=0.01)
    assert (loss_weight(level) * scale.c_out.square()).item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("timestep", [0, 1, 20, 200, 500, 800, 999])
def test_converted_epsilon_equals_ddim(timestep: int) -> None:
    """A converted noise prediction at a Stable Diffusion timestep gives DDIM's predicted original sample."""
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(1000)
    alpha = scheduler.alphas_cumprod[timestep].double()
    sigma = ((1 - alpha) / alpha).sqrt()
    generator = torch.Generator().manual_seed(timestep)
    x_t, epsilon = torch.randn(2, 50, generator=generator, dtype=torch.float64)  # variance-preserving
    noisy = x_t / precondition(sigma).c_in
    scale = precondition(sigma)
    denoised = scale.c_skip * noisy + scale.c_out * from_epsilon(epsilon, noisy, sigma)
    expected = scheduler.step(epsilon, timestep, x_t).pred_original_sample
    torch.testing.assert_close(denoised, expected.double(), rtol=1e-5, atol=1e-5)


def test_noise_distribution_has_the_papers_moments() -> None:
    """ln sigma has mean 0.7 and standard deviation 1.6; equal seeds give equal levels."""
    levels = sample_sigmas(NoiseDistribution(), 100_000, generator=torch.Generator().manual_seed(0))
    assert levels.log().mean().item() == pytest.approx(0.7, abs=0.02)
    assert levels.log().std().item() == pytest.approx(1.6, abs=0.02)
    again = sample_sigmas(NoiseDistribution(), 100_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(levels, again)


@pytest.mark.parametrize("targets", [1, 5, 7, 8])
def test_shift_lowers_log_snr_by_ln_targets(targets: int) -> None:
    """The shift lowers the log-SNR, -2 ln sigma, by exactly ln N, in the distribution and in the function."""
    sigma = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    lowered = 2 * (shift_sigma(sigma, targets) / sigma).log()
    torch.testing.assert_close(lowered, torch.full_like(lowered, math.log(targets)))
    one, many = (
        sample_sigmas(NoiseDistribution(), 4, targets=n, generator=torch.Generator().manual_seed(5))
        for n in (1, targets)
    )
    torch.testing.assert_close(many, shift_sigma(one, targets))


@pytest.mark.parametrize("steps", [1, 2, 18, 50])
def test_schedule_equals_edm_euler_scheduler(steps: int) -> None:
    """The levels equal diffusers' Karras schedule with the same ends, from sigma_max down to 0."""
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=1.0)
    scheduler.set_timesteps(steps)
    sigmas = schedule_sigmas(NoiseSchedule(steps=steps))
    torch.testing.assert_close(sigmas.float(), scheduler.sigmas, rtol=1e-5, atol=1e-6)
    assert sigmas[0].item() == pytest.approx(80.0)
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())


def test_the_highest_level_depends_on_the_conditioning_views() -> None:
    """80, or 700 without conditioning views, unless a schedule states it."""
    assert schedule_sigmas(NoiseSchedule(), conditioning_views=3)[0].item() == pytest.approx(80.0)
    assert schedule_sigmas(NoiseSchedule(), conditioning_views=0)[0].item() == pytest.approx(700.0)
    assert schedule_sigmas(NoiseSchedule(sigma_max=5.0), conditioning_views=0)[0].item() == pytest.approx(5.0)


def test_a_shifted_schedule_follows_the_training_distribution() -> None:
    """Known numbers: of 50 levels for 7 targets, 12 are below the first percentile of training, with the shift 8; every
    level is that of one target times the root of 7."""
    plain, shifted = (schedule_sigmas(NoiseSchedule(shift=shift), targets=7) for shift in (False, True))
    torch.testing.assert_close(shifted, shift_sigma(plain, 7))
    torch.testing.assert_close(schedule_sigmas(NoiseSchedule(shift=True), targets=1), plain)
    distribution = NoiseDistribution()
    percentile = math.exp(distribution.mean + distribution.std * NormalDist().inv_cdf(0.01)) * math.sqrt(7)
    assert [int((levels[:-1] < percentile).sum()) for levels in (plain, shifted)] == [12, 8]


def test_noise_label_keeps_shape() -> None:
    """Labels have the shape of the noise levels."""
    assert noise_label(torch.ones(2, 3, 1)).shape == (2, 3, 1)


def test_invalid_values_are_refused() -> None:
    """A shift for 0 targets and a schedule with sigma_min above sigma_max raise an error that names the field."""
    with pytest.raises(ValueError, match="targets: expected 1 or more"):
        shift_sigma(torch.ones(1), 0)
    with pytest.raises(ValueError, match="sigma_min: expected less than sigma_max"):
        NoiseSchedule(sigma_min=3.0, sigma_max=2.0)
