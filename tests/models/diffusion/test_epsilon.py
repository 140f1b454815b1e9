import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch import Tensor

from spinmeround.models.diffusion.edm import precondition, schedule_sigmas
from spinmeround.models.diffusion.epsilon import epsilon_denoiser_output, stable_diffusion_timestep
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.models.diffusion.sampling.edm_sampler import edm_sampler, seeded_generators
from spinmeround.models.diffusion.unet import TIME_SCALE, TIME_SHIFT
from tests.models.diffusion.networks import base_unet

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TEXT = torch.randn(2, 8, 512, generator=torch.Generator().manual_seed(4))


def denoise(unet: torch.nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
    """D of the preconditioned denoiser."""
    scale = precondition(sigma[:, None, None, None])
    return scale.c_skip * noisy + scale.c_out * epsilon_denoiser_output(unet, noisy, sigma, TEXT[: len(noisy)])


@pytest.mark.parametrize("timestep", [0, 1, 20, 261, 500, 800, 999])
@torch.no_grad()
def test_converted_unet_equals_ddim_at_its_timesteps(timestep: int) -> None:
    """The converted noise prediction at a timestep gives DDIM's predicted original sample."""
    unet = base_unet()
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False)
    scheduler.set_timesteps(1000)
    alpha = scheduler.alphas_cumprod[timestep]
    x_t = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(timestep))
    epsilon = unet(x_t, timestep, encoder_hidden_states=TEXT).sample
    expected = scheduler.step(epsilon, timestep, x_t).pred_original_sample
    got = denoise(unet, x_t / alpha.sqrt(), ((1 - alpha) / alpha).sqrt().expand(2))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-3)


@torch.no_grad()
def test_a_complete_sampling_equals_diffusers() -> None:
    """EDM's Euler sampler with the converted network gives the result of EulerDiscreteScheduler with the noise
    predictions, at the same noise levels."""
    unet = base_unet()
    scheduler = EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="linspace")
    scheduler.set_timesteps(8)
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    x = noise * scheduler.sigmas[0]
    for timestep in scheduler.timesteps:
        epsilon = unet(scheduler.scale_model_input(x, timestep), timestep, encoder_hidden_states=TEXT).sample
        x = scheduler.step(epsilon, timestep, x).prev_sample
    ours = edm_sampler(
        lambda noisy, sigma: denoise(unet, noisy, sigma), noise, scheduler.sigmas.double(), seeded_generators([0, 1])
    )
    torch.testing.assert_close(ours, x, rtol=2e-2, atol=2e-2)


def test_timesteps_of_noise_levels() -> None:
    """A level of the schedule gives its timestep, the midpoint in ln(sigma) of two levels that of their timesteps;
    values outside are clamped."""
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.double()
    sigmas = ((1 - alphas) / alphas).sqrt()
    torch.testing.assert_close(stable_diffusion_timestep(sigmas[[0, 400, 999]]), torch.tensor([0.0, 400, 999]).double())
    between = (sigmas[400] * sigmas[401]).sqrt()[None]
    assert stable_diffusion_timestep(between).item() == pytest.approx(400.5)
    assert stable_diffusion_timestep(torch.tensor([1e-3, 700.0])).tolist() == [0, 999]


def test_the_noise_label_is_near_the_timestep() -> None:
    """640 c_noise + 440 is within 170 of Stable Diffusion's timestep at all its noise levels."""
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.double()
    sigmas = ((1 - alphas) / alphas).sqrt()
    ours = TIME_SCALE * sigmas.log() / 4 + TIME_SHIFT
    assert (ours - torch.arange(1000)).abs().max() < 170
    levels = schedule_sigmas(NoiseSchedule(sigma_min=0.03, sigma_max=14.6, steps=50))[:-1]
    assert bool((stable_diffusion_timestep(levels).diff() < 0).all())
