import pytest
import torch

from spinmeround.models.diffusion.edm import NoiseDistribution, NoiseSchedule
from spinmeround.models.diffusion.guidance import guided_denoiser
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss
from spinmeround.models.diffusion.sampler import draw_noise, edm_sampler, seeded_generators
from tests.models.diffusion.networks import conditions, tiny_unet


@pytest.mark.slow
def test_a_group_learnt_by_heart_is_sampled() -> None:
    """Trained on one group alone, the network loses less than 0.4 of what it lost at first, and samples from two seeds
    come within three quarters of the distance of two random groups of the group that it learnt."""
    unet, known = tiny_unet(awake=False).train(), conditions(batch=1)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=3e-3)
    batch = TrainingBatch(
        latents=known.clean.expand(8, -1, -1, -1, -1),
        conditioning=known.conditioning.expand(8, -1),
        rays=known.rays.expand(8, -1, -1, -1, -1),
        text=known.text.expand(8, -1, -1),
        empty_text=torch.zeros(8, *known.text.shape[1:]),
        drop_identity=torch.zeros(8, dtype=torch.bool),
        drop_images=torch.zeros(8, dtype=torch.bool),
    )
    generator, losses = torch.Generator().manual_seed(0), []
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / 150)
        sigma = NoiseDistribution().sample(8, targets=3, generator=generator)
        loss = multiview_loss(unet, batch, sigma, torch.randn(batch.latents.shape, generator=generator)).mean
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.4 * sum(losses[:5]) * 4
    generators, both = seeded_generators([1, 2]), known.joined(known)
    with torch.no_grad():
        denoise = guided_denoiser(unet.eval(), both, torch.zeros_like(both.text), 1.0)
        noise = draw_noise(both.clean.shape, generators)
        samples = edm_sampler(denoise, noise, NoiseSchedule(steps=12).sigmas(), generators)
    distance = (samples - both.clean)[:, 1:].square().mean().sqrt().item()
    assert distance < 0.75 * 2**0.5
