"""Inference of normals for jointly Gaussian images and normals, whose conditional distribution is known."""

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
    """The ideal denoiser of unit-variance images and normals whose channels are pairwise correlated by rho."""
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        halves = x.unflatten(2, (2, -1))  # batch view half channel height width
        total = covariance + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64)
        return torch.einsum("ij,bvjchw->bvichw", covariance @ total.inverse(), halves).flatten(2, 3)

    return denoise


def infer(rho: float, side: int = 4, batch: int = 400, **params: float) -> tuple[Tensor, Tensor]:
    """Image latents and the normals inferred from them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 2, side, side, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch, 1, 4, side, side, generator=generator, dtype=torch.float64)
    return images, infer_normal_latents(correlated(rho), images, noise, PhotoNormalsParams(**params)).latents


@pytest.mark.parametrize("rho", [0.9, 0.5, -0.5, 0.0])
def test_normals_have_the_conditional_distribution(rho: float) -> None:
    """Given the image, normals have mean rho times the image and variance 1 - rho^2: slope within 0.05, standard
    deviation within 0.06."""
    images, normals = infer(rho)
    slope = ((normals * images).mean() / images.square().mean()).item()
    assert slope == pytest.approx(rho, abs=0.05)
    assert (normals - rho * images).std().item() == pytest.approx((1 - rho**2) ** 0.5, abs=0.06)


SPREAD = torch.logspace(-1, 0.5, 16, dtype=torch.float64)
"""Standard deviations of the 16 pixels of a latent; variances from 0.01 to 10."""


def uneven(error: float = 0.0) -> Denoise:
    """The ideal denoiser of pixels with the standard deviations SPREAD, images and normals correlated by 0.9. `error`
    adds a random matrix of this norm, which makes the derivative neither symmetric nor positive definite."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64) * SPREAD.reshape(16, 1, 1) ** 2
    perturbed = torch.randn(32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    perturbed = torch.eye(32, dtype=torch.float64) + error * perturbed / torch.linalg.matrix_norm(perturbed, 2)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        gain = covariance @ (covariance + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64)).inverse()
        ideal = torch.einsum("nij,bvjn->bvin", gain, x.flatten(3))
        return torch.einsum("ij,bvj->bvi", perturbed, ideal.flatten(2)).unflatten(2, (2, 4, 4))

    return denoise


def uneven_images(batch: int) -> tuple[Tensor, Tensor]:
    """Image latents with the standard deviations SPREAD, and noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 1, 4, 4, generator=generator, dtype=torch.float64) * SPREAD.reshape(4, 4)
    return images, torch.randn(batch, 1, 2, 4, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("corrections", "slope", "image"), [(1, 0.5, 0.15), (2, 0.3, 0.01), (4, 0.15, 0.001)])
def test_guidance_converges_for_any_variance(corrections: int, slope: float, image: float) -> None:
    """For variances from 0.01 to 10, the slope of each pixel is close to 0.9 and the image half close to the photo;
    both improve with more gradients. A fixed weight diverges or barely moves."""
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
def test_more_gradients_do_not_diverge_for_an_imperfect_network(corrections: int) -> None:
    """For a derivative that is neither symmetric nor positive definite, the image half still approaches the photo and
    the normals stay bounded. Conjugate gradients diverge here, by 10^15 with six iterations."""
    images, noise = uneven_images(100)
    ends = []
    found = infer_normal_latents(
        uneven(error=2.0), images, noise, PhotoNormalsParams(corrections=corrections), lambda _, x: ends.append(x)
    ).latents
    assert (ends[-1][:, 0, :1] - images).square().mean() < 0.5 * images.square().mean()
    assert found.square().mean() < 7 * images.square().mean()


def test_the_papers_step_descends_the_mean_distance() -> None:
    """In Stable Diffusion's coordinates v the first step is Euler's minus 1e4 times the gradient of the mean distance
    of the image half, by finite differences; at the size of its latents the image half ends at the photo."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 4, 64, 64, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 1, 8, 64, 64, generator=generator, dtype=torch.float64)
    denoise, steps = correlated(0.9), list[Tensor]()
    infer_normal_latents(
        denoise, images, noise, PhotoNormalsParams(guidance="paper", steps=50), lambda _, x: steps.append(x)
    )
    sigma, after = ddpm_sigmas(50)[:2]
    scale, scale_after = (1 + sigma**2).sqrt(), (1 + after**2).sqrt()
    start = noise * scale

    def distance(v: Tensor) -> Tensor:
        return (denoise(v * scale, sigma[None])[:, 0, :4] - images).square().mean((1, 2, 3))

    bump = torch.zeros_like(noise)
    bump[:, 0, 5, 3, 2] = 1e-3  # a pixel of the normals
    slope = (distance(noise + bump) - distance(noise - bump)) / 2e-3
    euler = start + (after - sigma) * (start - denoise(start, sigma[None])) / sigma
    shift = (steps[0] - euler)[:, 0, 5, 3, 2] / scale_after
    torch.testing.assert_close(shift, -1e4 * slope, rtol=1e-3, atol=1e-9)
    assert (steps[-1][:, 0, :4] - images).square().mean() < 0.05


def test_mean_of_the_best_half_of_the_draws() -> None:
    """The mean of the two best of three draws, selected per photo. The misfit of a draw is the mean over its steps of
    the squared distance between denoised image half and photo."""
    latents = torch.arange(3.0)[:, None, None, None, None] + torch.tensor([0.0, 10.0])[:, None, None, None]
    misfits = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.3, 0.3]])
    draws = [NormalLatents(each, misfit) for each, misfit in zip(latents, misfits, strict=True)]
    assert mean_of_best_half(draws).flatten().tolist() == [1.0, 11.5]
    assert mean_of_best_half(draws[:1]).flatten().tolist() == [0.0, 10.0]
    images, noise = uneven_images(2)
    seen: list[Tensor] = []

    def recorded(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = uneven()(x, sigma)
        seen.append((denoised[:, 0, :1].detach() - images).square().mean((1, 2, 3)))
        return denoised

    found = infer_normal_latents(recorded, images, noise, PhotoNormalsParams(steps=5))
    assert len(seen) == 5
    torch.testing.assert_close(found.misfit, torch.stack(seen).mean(0))


def test_a_callback_may_replace_the_latents() -> None:
    """The result is the tensor that the callback returns after the last step."""
    images, noise = uneven_images(2)
    other = torch.full((2, 1, 2, 4, 4), 7.0, dtype=torch.float64)
    found = infer_normal_latents(
        uneven(), images, noise, PhotoNormalsParams(steps=3), lambda step, _: other if step == 2 else None
    )
    assert (found.latents == 7.0).all()


def test_normals_are_independent_of_the_image_without_guidance() -> None:
    """At scale 0, normals are uncorrelated with the image and have unit variance."""
    images, normals = infer(0.9, scale=0.0)
    assert (normals * images).mean().item() == pytest.approx(0, abs=0.03)
    assert normals.std().item() == pytest.approx(1, abs=0.05)


def test_the_scale_is_independent_of_resolution() -> None:
    """Latents of 2 x 2 and 8 x 8 give the same slope."""
    slopes = [
        ((normals * images).mean() / images.square().mean()).item()
        for images, normals in (infer(0.9, side=2, batch=1600), infer(0.9, side=8, batch=100))
    ]
    assert slopes[0] == pytest.approx(slopes[1], abs=0.03)


@pytest.mark.parametrize("steps", [10, 50])
def test_noise_levels_equal_stable_diffusion(steps: int) -> None:
    """Noise levels equal those of diffusers' Euler scheduler with Stable Diffusion's betas."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(steps)
    torch.testing.assert_close(ddpm_sigmas(steps).float(), scheduler.sigmas, rtol=2e-2, atol=1e-3)
    assert ddpm_sigmas(steps)[0].item() == pytest.approx(14.61, abs=0.01)


def test_grad_mode_of_the_caller_is_unchanged() -> None:
    """Works under no_grad; the result requires no gradient."""
    with torch.no_grad():
        _, normals = infer(0.5, batch=2, steps=3)
        assert not torch.is_grad_enabled()
    assert not normals.requires_grad
