"""Fitting Gaussians to a ball: the losses, the beginning, the improvement, and the densification."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmeround.models.geometry.cameras import orbit
from spinmeround.models.geometry.hull import visual_hull
from spinmeround.models.metrics.images import psnr
from spinmeround.models.metrics.images import ssim as reference_ssim
from spinmeround.models.reconstruction.gaussians import Gaussians, rotation_matrices
from spinmeround.models.reconstruction.initial import gaussians_on_mesh
from spinmeround.models.reconstruction.losses import on_background, ssim
from spinmeround.models.reconstruction.optimisation import FittedView, fit_gaussians, picture_loss
from spinmeround.models.reconstruction.params import DensifyParams, LearningRates, SplatParams
from spinmeround.models.reconstruction.projection import pixel_cameras
from spinmeround.models.reconstruction.rasteriser import draw
from tests.models.reconstruction.balls import CENTRE, RADIUS, Ball, ball

QUICK = SplatParams(
    number=300, steps=40, densify=DensifyParams(start=10_000), rates=LearningRates(means=1e-3, log_scales=2e-2)
)
"""Higher rates than for a head of 128 px: the pixels are larger, and the steps few."""


@pytest.fixture(scope="module")
def views() -> Ball:
    return ball()


@pytest.fixture(scope="module")
def initial(views: Ball) -> Gaussians:
    hull = visual_hull(views.cameras, views.mask, resolution=32)
    return gaussians_on_mesh(hull, views.cameras, views.rgb, views.mask, number=300)


def fitted(views: Ball, chosen: slice) -> list[FittedView]:
    """Views as the optimisation takes them."""
    tensors = [torch.from_numpy(each[chosen].astype(np.float32) / 255) for each in (views.rgb, views.mask)]
    cameras = pixel_cameras(views.cameras[chosen], views.rgb.shape[1])
    return [FittedView(camera=each, rgb=rgb, alpha=alpha) for each, rgb, alpha in zip(cameras, *tensors, strict=True)]


def quality(gaussians: Gaussians, views: list[FittedView]) -> float:
    """Mean PSNR of views, in dB."""
    return float(np.mean([psnr(draw(gaussians, v.camera).rgb.clamp(0, 1).numpy(), v.rgb.numpy()) for v in views]))


def test_ssim_is_the_metric() -> None:
    """Equal to the evaluation's SSIM, up to single precision."""
    random = np.random.default_rng(0)
    a = random.random((24, 30, 3))
    b = np.clip(a + 0.2 * random.standard_normal(a.shape), 0, 1)
    found = ssim(torch.from_numpy(a), torch.from_numpy(b))
    assert float(found) == pytest.approx(float(reference_ssim(a, b)), abs=1e-6)
    assert float(ssim(torch.from_numpy(a), torch.from_numpy(a))) == pytest.approx(1.0)


def test_a_picture_moves_to_another_background() -> None:
    """c = a f + (1 - a) on white becomes a f + (1 - a) b."""
    colour, alpha, behind = torch.rand(4, 5, 3), torch.rand(4, 5), torch.tensor([0.2, 0.5, 0.9])
    white = alpha[..., None] * colour + (1 - alpha)[..., None]
    expected = alpha[..., None] * colour + (1 - alpha)[..., None] * behind
    torch.testing.assert_close(on_background(white, alpha, behind), expected)


def test_lpips_is_added() -> None:
    """The perceptual distance enters with its weight, and not without one."""
    a, b = torch.rand(16, 16, 3), torch.rand(16, 16, 3)
    plain = picture_loss(a, b, QUICK)
    weighted = picture_loss(a, b, QUICK, lambda x, y: (x - y).square().mean())
    assert float(weighted - plain) == pytest.approx(0.1 * float((a - b).square().mean()), rel=1e-4)
    none = QUICK.model_copy(update={"lpips_weight": 0.0})
    assert float(picture_loss(a, b, none, lambda x, y: x.sum())) == float(plain)


def test_gaussians_begin_flat_on_the_surface(initial: Gaussians) -> None:
    """Means lie on the ball, the thin axis is its normal, and colours are those of the ball."""
    outward = torch.nn.functional.normalize(initial.means - torch.from_numpy(CENTRE).float(), dim=-1)
    distance = (initial.means - torch.from_numpy(CENTRE).float()).norm(dim=-1)
    assert float((distance - RADIUS).abs().median()) < 0.02 * RADIUS
    thin = rotation_matrices(initial.quaternions)[:, :, 2]
    assert bool((initial.log_scales[:, 2] < initial.log_scales[:, 0]).all())
    assert float((thin * outward).sum(-1).median()) > 0.99
    colours = 0.5 + 0.28209479 * initial.harmonics[:, 0]
    expected = 0.5 + 0.4 * outward * torch.tensor([1.0, 0.7, 0.4])
    assert float((colours - expected).abs().median()) < 0.03


def test_fitting_improves_views_that_were_not_fitted(views: Ball, initial: Gaussians) -> None:
    """40 steps raise the PSNR of held-out views by decibels, and equal seeds give equal results."""
    used, held_out = fitted(views, slice(0, 18)), fitted(views, slice(18, 20))
    losses: list[float] = []
    found = fit_gaussians(initial, used, QUICK, on_step=lambda report: losses.append(report.loss))
    assert len(losses) == 40
    assert quality(found, held_out) > quality(initial, held_out) + 2
    again = fit_gaussians(initial, used, QUICK)
    assert torch.equal(found.means, again.means)
    other = fit_gaussians(initial, used, QUICK.model_copy(update={"seed": 1}))
    assert not torch.equal(found.means, other.means)


def test_masks_are_fitted_too(views: Ball, initial: Gaussians) -> None:
    """On white alone a white head is invisible; the random backgrounds make it opaque."""
    used = [replace(each, rgb=torch.ones_like(each.rgb)) for each in fitted(views, slice(0, 20))]
    faint = replace(initial, opacity_logits=torch.full_like(initial.opacity_logits, -2.0))
    white = replace(faint, harmonics=torch.full_like(faint.harmonics, 0.5 / 0.28209479))
    middle = used[0].alpha > 0.99
    found = {
        share: draw(
            fit_gaussians(white, used, QUICK.model_copy(update={"random_background": share})), used[0].camera
        ).alpha[middle]
        for share in (0.0, 1.0)
    }
    assert float(found[1.0].mean()) > 0.8
    assert float(found[0.0].mean()) < 0.5


def test_gsplats_strategy_densifies_and_stops_at_the_most(views: Ball, initial: Gaussians) -> None:
    """Gaussians with large gradients are split or duplicated, but not beyond the first refinement above `most`."""
    used = fitted(views, slice(0, 18))
    numbers: list[int] = []

    def count(most: int) -> Gaussians:
        numbers.clear()
        densify = DensifyParams(start=5, every=10, stop_share=1.0, gradient=1e-5, most=most)
        params = QUICK.model_copy(update={"densify": densify})
        return fit_gaussians(initial, used, params, on_step=lambda report: numbers.append(report.gaussians))

    assert len(count(100_000)) > 600
    assert numbers[9] == 300
    assert numbers[10] > 300
    assert len(count(300)) <= 300


def test_nothing_to_fit_is_refused(initial: Gaussians) -> None:
    """The error says what is expected."""
    with pytest.raises(ValueError, match="at least one"):
        fit_gaussians(initial, [], QUICK)


def test_a_view_without_gaussians_is_no_obstacle(views: Ball, initial: Gaussians) -> None:
    """A camera that looks away sees the background, and the others are fitted."""
    used = fitted(views, slice(0, 2))
    away = orbit([0.0], [0.0])
    away.cam2world[:, :3, :3] = away.cam2world[:, :3, :3] @ np.diag([-1.0, 1.0, -1.0]).astype(np.float32)
    blank = FittedView(camera=pixel_cameras(away, 32)[0], rgb=torch.ones(32, 32, 3), alpha=torch.zeros(32, 32))
    found = fit_gaussians(initial, [*used, blank], QUICK.model_copy(update={"steps": 6}))
    assert bool(found.means.isfinite().all())
