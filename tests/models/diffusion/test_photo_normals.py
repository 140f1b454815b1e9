"""Normals of a photo, where images and normals are normally distributed and the answer is known."""

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from models.diffusion.denoiser import Denoise
from models.diffusion.photo_normals import PhotoNormalsParams, ddpm_sigmas, infer_normal_latents


def correlated(rho: float) -> Denoise:
    """The ideal denoiser of images and normals of unit variance whose channels are correlated pairwise by rho."""
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        halves = x.unflatten(2, (2, -1))  # batch view half channel height width
        total = covariance + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64)
        return torch.einsum("ij,bvjchw->bvichw", covariance @ total.inverse(), halves).flatten(2, 3)

    return denoise


def infer(rho: float, side: int = 4, batch: int = 400, **params: float) -> tuple[Tensor, Tensor]:
    """Image latents, and the normals that were found for them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 2, side, side, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch, 1, 4, side, side, generator=generator, dtype=torch.float64)
    return images, infer_normal_latents(correlated(rho), images, noise, PhotoNormalsParams(**params))


@pytest.mark.parametrize("rho", [0.9, 0.5, -0.5, 0.0])
def test_normals_follow_the_image_as_they_are_correlated(rho: float) -> None:
    """Given the image, normals are distributed about rho times it with variance 1 - rho^2: the slope comes within 0.05,
    the deviation within 0.06."""
    images, normals = infer(rho)
    slope = ((normals * images).mean() / images.square().mean()).item()
    assert slope == pytest.approx(rho, abs=0.05)
    assert (normals - rho * images).std().item() == pytest.approx((1 - rho**2) ** 0.5, abs=0.06)


@pytest.mark.parametrize(("corrections", "within"), [(1, 0.42), (4, 0.15)])
def test_wherever_latents_vary_little_or_much_normals_follow(corrections: int, within: float) -> None:
    """Sixteen directions with variances from 0.01 to 10: the slope is near 0.9 in each, and nearer with more gradients;
    the image half ends at the photo. A fixed weight diverges here (slopes over 1) or hardly moves."""
    spread = torch.logspace(-1, 0.5, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(600, 1, 4, 4, generator=generator, dtype=torch.float64) * spread
    noise = torch.randn(600, 1, 2, 4, 4, generator=generator, dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64) * spread.reshape(16, 1, 1) ** 2

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        gain = covariance @ (covariance + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64)).inverse()
        return torch.einsum("nij,bvjn->bvin", gain, x.flatten(3)).unflatten(3, (4, 4))

    normals = infer_normal_latents(denoise, images, noise, PhotoNormalsParams(corrections=corrections))
    slopes = (normals * images).mean((0, 1)) / images.square().mean((0, 1))
    assert slopes.max() < 1
    assert (slopes - 0.9).abs().max() < within


def test_without_guidance_normals_know_nothing_of_the_image() -> None:
    """At scale 0 the two are sampled freely."""
    images, normals = infer(0.9, scale=0.0)
    assert (normals * images).mean().item() == pytest.approx(0, abs=0.03)
    assert normals.std().item() == pytest.approx(1, abs=0.05)


def test_the_scale_means_the_same_at_any_size() -> None:
    """Latents of 2 x 2 and 8 x 8 come as near to what they should as the paper's size does."""
    slopes = [
        ((normals * images).mean() / images.square().mean()).item()
        for images, normals in (infer(0.9, side=2, batch=1600), infer(0.9, side=8, batch=100))
    ]
    assert slopes[0] == pytest.approx(slopes[1], abs=0.03)


@pytest.mark.parametrize("steps", [10, 50])
def test_levels_are_those_of_stable_diffusion(steps: int) -> None:
    """diffusers' Euler scheduler with Stable Diffusion's betas has these noise levels at the same timesteps."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(steps)
    torch.testing.assert_close(ddpm_sigmas(steps).float(), scheduler.sigmas, rtol=2e-2, atol=1e-3)
    assert ddpm_sigmas(steps)[0].item() == pytest.approx(14.61, abs=0.01)


def test_grad_mode_of_the_caller_is_left_alone() -> None:
    """It works without gradients round it, and gives none."""
    with torch.no_grad():
        _, normals = infer(0.5, batch=2, steps=3)
        assert not torch.is_grad_enabled()
    assert not normals.requires_grad
