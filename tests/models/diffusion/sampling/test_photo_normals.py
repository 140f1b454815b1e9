"""Normals of a photo, where images and normals are normally distributed and the answer is known."""

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Denoise
from spinmeround.models.diffusion.params import PhotoNormalsParams
from spinmeround.models.diffusion.sampling.photo_normals import (
    NormalLatents,
    ddpm_sigmas,
    infer_normal_latents,
    mean_of_best_half,
)


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
    return images, infer_normal_latents(correlated(rho), images, noise, PhotoNormalsParams(**params)).latents


@pytest.mark.parametrize("rho", [0.9, 0.5, -0.5, 0.0])
def test_normals_follow_the_image_as_they_are_correlated(rho: float) -> None:
    """Given the image, normals are distributed about rho times it with variance 1 - rho^2: the slope comes within 0.05,
    the deviation within 0.06."""
    images, normals = infer(rho)
    slope = ((normals * images).mean() / images.square().mean()).item()
    assert slope == pytest.approx(rho, abs=0.05)
    assert (normals - rho * images).std().item() == pytest.approx((1 - rho**2) ** 0.5, abs=0.06)


SPREAD = torch.logspace(-1, 0.5, 16, dtype=torch.float64)
"""Standard deviations of the sixteen pixels of a latent: variances of 0.01 to 10."""


def uneven(unlike: float = 0.0) -> Denoise:
    """The ideal denoiser of pixels of these deviations, images and normals correlated by 0.9; `unlike` adds a random
    matrix of that norm to what it does, so that its derivative is neither symmetric nor positive."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64) * SPREAD.reshape(16, 1, 1) ** 2
    wrong = torch.randn(32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wrong = torch.eye(32, dtype=torch.float64) + unlike * wrong / torch.linalg.matrix_norm(wrong, 2)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        gain = covariance @ (covariance + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64)).inverse()
        ideal = torch.einsum("nij,bvjn->bvin", gain, x.flatten(3))
        return torch.einsum("ij,bvj->bvi", wrong, ideal.flatten(2)).unflatten(2, (2, 4, 4))

    return denoise


def uneven_images(batch: int) -> tuple[Tensor, Tensor]:
    """Image latents of these deviations, and noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 1, 4, 4, generator=generator, dtype=torch.float64) * SPREAD.reshape(4, 4)
    return images, torch.randn(batch, 1, 2, 4, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("corrections", "slope", "image"), [(1, 0.5, 0.15), (2, 0.3, 0.01), (4, 0.15, 0.001)])
def test_wherever_latents_vary_little_or_much_normals_follow(corrections: int, slope: float, image: float) -> None:
    """Sixteen pixels with variances from 0.01 to 10: the slope is within this of 0.9 in each, and the image half ends
    within this share of the photo; both are nearer with more gradients. A fixed weight diverges or hardly moves."""
    images, noise = uneven_images(600)
    ends = []
    found = infer_normal_latents(
        uneven(), images, noise, PhotoNormalsParams(corrections=corrections), lambda _, x: ends.append(x[:, 0, :1])
    ).latents
    slopes = (found * images).mean((0, 1)) / images.square().mean((0, 1))
    assert slopes.max() < 1
    assert (slopes - 0.9).abs().max() < slope
    assert ((ends[-1] - images).square().mean((0, 1)).sqrt() / SPREAD.reshape(4, 4)).max() < image


@pytest.mark.parametrize("corrections", [1, 2, 3, 6])
def test_more_gradients_of_a_network_that_errs_do_not_diverge(corrections: int) -> None:
    """With a derivative that is neither symmetric nor positive the image half still comes nearer to the photo than half
    its size, and the normals stay of the order of the images. Conjugate gradients diverge here, by 10^15 with six."""
    images, noise = uneven_images(100)
    ends = []
    found = infer_normal_latents(
        uneven(unlike=2.0), images, noise, PhotoNormalsParams(corrections=corrections), lambda _, x: ends.append(x)
    ).latents
    assert (ends[-1][:, 0, :1] - images).square().mean() < 0.5 * images.square().mean()
    assert found.square().mean() < 7 * images.square().mean()


def test_the_best_half_of_the_draws_counts() -> None:
    """Known numbers: of three draws the two that misfit least, of each photo its own; and a draw's misfit is the mean
    over its steps of the denoised image's squared distance to the photo, by a second look at each step."""
    latents = torch.arange(3.0)[:, None, None, None, None] + torch.tensor([0.0, 10.0])[:, None, None, None]
    misfits = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.3, 0.3]])
    draws = [NormalLatents(each, misfit) for each, misfit in zip(latents, misfits, strict=True)]
    assert mean_of_best_half(draws).flatten().tolist() == [1.0, 11.5]
    assert mean_of_best_half(draws[:1]).flatten().tolist() == [0.0, 10.0]
    images, noise = uneven_images(2)
    seen: list[Tensor] = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = uneven()(x, sigma)
        seen.append((denoised[:, 0, :1].detach() - images).square().mean((1, 2, 3)))
        return denoised

    found = infer_normal_latents(watched, images, noise, PhotoNormalsParams(steps=5))
    assert len(seen) == 5
    torch.testing.assert_close(found.misfit, torch.stack(seen).mean(0))


def test_a_step_can_be_answered_with_other_latents() -> None:
    """What the callback of the last step returns is the result."""
    images, noise = uneven_images(2)
    other = torch.full((2, 1, 2, 4, 4), 7.0, dtype=torch.float64)
    found = infer_normal_latents(
        uneven(), images, noise, PhotoNormalsParams(steps=3), lambda step, _: other if step == 2 else None
    )
    assert (found.latents == 7.0).all()


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
