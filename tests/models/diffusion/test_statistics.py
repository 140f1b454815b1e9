"""Statistics of latents: a model with them is one that sees normalised latents, and the identity changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.geometry.cameras import orbit
from tests.models.diffusion.networks import (
    TINY_PROMPT,
    base_unet,
    conditions,
    tiny_autoencoder,
    tiny_text_encoder,
    tiny_unet,
)


def _statistics(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 4, 4, generator=draw), 0.5 + torch.rand(2, 4, 4, 4, generator=draw)


def _with(mean: torch.Tensor, std: torch.Tensor) -> MultiviewUNet:
    unet = tiny_unet()
    unet.add_latent_statistics()
    assert unet.statistics is not None
    unet.statistics.set(mean, std)
    return unet


def test_normalised_latents_are_restored() -> None:
    """A round trip of both halves and of each; known values at one position."""
    unet, (mean, std) = _with(*_statistics()), _statistics()
    latents = torch.randn(3, 2, 8, 4, 4)
    torch.testing.assert_close(unet.restored(unet.normalised(latents)), latents)
    normals = unet.normalised(latents[:, 0, 4:], "normals")
    torch.testing.assert_close(normals, unet.normalised(latents)[:, 0, 4:])
    assert normals[1, 2, 3, 0] == pytest.approx(float((latents[1, 0, 6, 3, 0] - mean[1, 2, 3, 0]) / std[1, 2, 3, 0]))
    torch.testing.assert_close(unet.restored(normals, "normals"), latents[:, 0, 4:])


def test_the_loss_is_that_of_normalised_latents() -> None:
    """The same as without statistics on latents that are normalised beforehand, conditioning views included."""
    given, (mean, std) = conditions(), _statistics()
    batch = TrainingBatch(
        latents=torch.randn(2, 4, 8, 4, 4, generator=torch.Generator().manual_seed(3)),
        is_conditioning=given.is_conditioning,
        rays=given.rays,
        prompt_embeds=given.prompt_embeds,
        empty_prompt_embeds=given.prompt_embeds,
        drop_identity=torch.zeros(2, dtype=torch.bool),
        drop_images=torch.zeros(2, dtype=torch.bool),
    )
    sigma, noise = torch.tensor([0.5, 3.0]), torch.randn(2, 4, 8, 4, 4, generator=torch.Generator().manual_seed(4))
    beforehand = replace(batch, latents=(batch.latents - mean.flatten(0, 1)) / std.flatten(0, 1))
    with torch.no_grad():
        found = multiview_loss(_with(mean, std), batch, sigma, noise).per_half
        torch.testing.assert_close(found, multiview_loss(tiny_unet(), beforehand, sigma, noise).per_half)
        plain = multiview_loss(tiny_unet(), batch, sigma, noise).per_half
        assert torch.equal(
            multiview_loss(_with(torch.zeros_like(mean), torch.ones_like(std)), batch, sigma, noise).per_half, plain
        )


def _views(unet: MultiviewUNet, output_type: str) -> torch.Tensor:
    pipeline = SpinMeRoundPipeline(unet, tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump(), "camera")
    pipeline.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    output = pipeline(
        orbit([0.0, 60.0, 120.0], [0.0, 0.0, 0.0]),
        conditioning_views=PosedViews(cameras=orbit([0.0], [0.0]), images=image, normals=image),
        schedule=NoiseSchedule(steps=2),
        generator=torch.Generator().manual_seed(8),
        output_type=output_type,
    )
    return torch.as_tensor(output.images)


def test_a_pipeline_takes_and_returns_the_latents_of_its_autoencoder() -> None:
    """A view at the camera of the given one is the given one, also where the model normalises; statistics that are the
    identity change nothing."""
    plain, identity = _views(tiny_unet(), "latent"), _with(torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4))
    normalised = _views(_with(*_statistics()), "latent")
    torch.testing.assert_close(normalised[0], plain[0], atol=1e-5, rtol=1e-4)
    assert (normalised[1:] - plain[1:]).abs().max() > 0.1
    assert torch.equal(_views(identity, "latent"), plain)


def test_statistics_are_saved_with_the_model(tmp_path: Path) -> None:
    """The loaded network has the same; a network without them has no such file entries, and takes none from a plain
    UNet."""
    unet = _with(*_statistics())
    unet.save_pretrained(tmp_path)
    loaded = MultiviewUNet.from_pretrained(tmp_path)
    assert loaded.statistics is not None
    assert torch.equal(loaded.statistics.mean, unet.statistics.mean)
    assert torch.equal(loaded.statistics.std, unet.statistics.std)
    assert not any("statistics" in name for name in tiny_unet().state_dict())
    grown = MultiviewUNet.from_unet(base_unet(), multiview_factors=(1,), latent_statistics=True)
    assert grown.statistics is not None
    assert grown.statistics.is_identity


def test_statistics_that_are_not_finite_are_refused() -> None:
    """NaN means and deviations of zero raise an error, and change nothing."""
    mean, std = _statistics()
    unet = _with(mean, std)
    assert unet.statistics is not None
    for wrong in ((mean * float("nan"), std), (mean, std * 0)):
        with pytest.raises(ValueError, match="expected finite means and positive deviations"):
            unet.statistics.set(*wrong)
    assert torch.equal(unet.statistics.mean, mean)
