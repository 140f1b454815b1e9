import pytest
import torch

from spinmeround.models.diffusion.edm import sample_sigmas, schedule_sigmas
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss
from spinmeround.models.diffusion.params import NoiseDistribution, NoiseSchedule
from spinmeround.models.diffusion.sampling.edm_sampler import draw_noise, edm_sampler, seeded_generators
from spinmeround.models.diffusion.sampling.guidance import guided_denoiser
from tests.models.diffusion.networks import conditions, tiny_unet


@pytest.mark.slow
def test_an_overfitted_group_is_sampled() -> None:
    """Trained on one group alone, the loss falls below 0.4 of its initial value, and samples from two seeds are closer
    to that group than 0.75 of the distance between two random groups."""
    unet, known = tiny_unet(active_3d=False).train(), conditions(batch=1)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=3e-3)
    batch = TrainingBatch(
        latents=known.conditioning_latents.expand(8, -1, -1, -1, -1),
        is_conditioning=known.is_conditioning.expand(8, -1),
        rays=known.rays.expand(8, -1, -1, -1, -1),
        prompt_embeds=known.prompt_embeds.expand(8, -1, -1),
        empty_prompt_embeds=torch.zeros(8, *known.prompt_embeds.shape[1:]),
        drop_identity=torch.zeros(8, dtype=torch.bool),
        drop_images=torch.zeros(8, dtype=torch.bool),
    )
    generator, losses = torch.Generator().manual_seed(0), []
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / 150)
        sigma = sample_sigmas(NoiseDistribution(), 8, targets=3, generator=generator)
        loss = multiview_loss(unet, batch, sigma, torch.randn(batch.latents.shape, generator=generator)).mean
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.4 * sum(losses[:5]) * 4
    generators, both = seeded_generators([1, 2]), known.joined(known)
    with torch.no_grad():
        denoise = guided_denoiser(unet.eval(), both, torch.zeros_like(both.prompt_embeds), 1.0)
        noise = draw_noise(both.conditioning_latents.shape, generators)
        samples = edm_sampler(denoise, noise, schedule_sigmas(NoiseSchedule(steps=12)), generators)
    distance = (samples - both.conditioning_latents)[:, 1:].square().mean().sqrt().item()
    assert distance < 0.75 * 2**0.5
