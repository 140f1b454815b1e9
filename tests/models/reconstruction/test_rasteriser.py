"""The torch rasteriser against gsplat's own torch reference, and against the formulas pixel by pixel."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from gsplat.cuda import _torch_impl as reference

from spinmeround.models.reconstruction import rasteriser
from spinmeround.models.reconstruction.gaussians import Gaussians, colours, covariances, harmonic_basis
from spinmeround.models.reconstruction.projection import NEAR, project_gaussians
from spinmeround.models.reconstruction.rasteriser import composite, draw
from tests.models.reconstruction.clouds import camera, cloud, dense

FIELDS = ("means", "quaternions", "log_scales", "opacity_logits", "harmonics")


def projected_by_gsplat(gaussians: Gaussians, view):
    """gsplat's projection of the Gaussians: radii, means, depths and conics."""
    spread, _ = reference._quat_scale_to_covar_preci(
        gaussians.quaternions, gaussians.log_scales.exp(), compute_preci=False
    )
    poses, lenses = view.world2cam[None], view.intrinsics[None]
    found = reference._fully_fused_projection(
        gaussians.means, spread, poses, lenses, view.side, view.side, near_plane=NEAR
    )
    return tuple(each[0] for each in found[:4])


@pytest.fixture
def nerfacc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two functions of nerfacc that gsplat's reference imports, for samples sorted by ray (Max 1995)."""

    def render_weight_from_alpha(alphas, ray_indices, n_rays):
        transmittance = torch.ones_like(alphas)
        for number in range(1, len(alphas)):
            if ray_indices[number] == ray_indices[number - 1]:
                transmittance[number] = transmittance[number - 1] * (1 - alphas[number - 1])
        return alphas * transmittance, transmittance

    def accumulate_along_rays(weights, values, ray_indices, n_rays):
        values = torch.ones_like(weights)[:, None] if values is None else values
        found = torch.zeros(n_rays, values.shape[-1], dtype=values.dtype)
        return found.index_add(0, ray_indices, weights[:, None] * values)

    module = ModuleType("nerfacc")
    module.render_weight_from_alpha = render_weight_from_alpha
    module.accumulate_along_rays = accumulate_along_rays
    monkeypatch.setitem(sys.modules, "nerfacc", module)


def test_covariances_are_those_of_gsplat() -> None:
    """R S S^T R^T of quaternions of any length."""
    gaussians = cloud()
    spread, _ = reference._quat_scale_to_covar_preci(gaussians.quaternions, gaussians.log_scales.exp())
    torch.testing.assert_close(covariances(gaussians), spread)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_are_those_of_gsplat(degree: int) -> None:
    """Order, signs and constants of the basis, and the colour a camera sees."""
    gaussians, view = cloud(degree=degree, seed=degree), camera()
    directions = gaussians.means - view.position
    found = reference._spherical_harmonics(degree, directions, gaussians.harmonics)
    torch.testing.assert_close(colours(gaussians, view.position), (found + 0.5).clamp_min(0))
    unit = torch.nn.functional.normalize(directions, dim=-1)
    basis = reference._eval_sh_bases_fast((degree + 1) ** 2, unit)
    torch.testing.assert_close(harmonic_basis(unit, degree), basis)


def test_the_projection_is_that_of_gsplat() -> None:
    """Means, inverse covariances, depths and extents, also of Gaussians outside of the image and behind the camera."""
    near = cloud(80, spread=0.8)
    gaussians = replace(near, means=torch.cat([near.means[:60], 4 * near.means[60:]]))
    view = camera()
    radii, means, depths, conics = projected_by_gsplat(gaussians, view)
    found = project_gaussians(gaussians, view)
    front = depths > NEAR
    assert 0 < int((radii > 0).all(-1).sum()) < 80
    assert bool((~front).any())
    torch.testing.assert_close(found.means, means)
    torch.testing.assert_close(found.conics[front], conics[front])
    torch.testing.assert_close(found.depths, depths)
    torch.testing.assert_close(found.radii.int()[front], radii[front])
    assert not found.visible[~front].any()


def test_a_picture_is_that_of_gsplats_reference(nerfacc: None) -> None:
    """Projection and compositing by gsplat's torch functions, for the pairs that its kernels select."""
    gaussians, view = cloud(), camera(24)
    _, means, depths, conics = projected_by_gsplat(gaussians, view)
    seen, opacities = colours(gaussians, view.position), gaussians.opacity_logits.sigmoid()
    *_, pairs = dense(means, conics, depths, opacities, seen, 24)
    members, pixels = (torch.tensor(each) for each in zip(*pairs, strict=True))
    rgb, alpha = reference.accumulate(
        means[None], conics[None], opacities[None], seen[None], members, pixels, torch.zeros_like(members), 24, 24
    )
    found = draw(gaussians, view, background=0.0)
    assert float(alpha.max()) > 0.9
    torch.testing.assert_close(found.rgb, rgb[0])
    torch.testing.assert_close(found.alpha, alpha[0, ..., 0])


@pytest.mark.parametrize(("side", "scale"), [(33, -3.4), (16, -2.0), (24, -6.0)], ids=["usual", "large", "tiny"])
def test_tiles_change_nothing(side: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to a loop over pixels, for sides that no tile divides, Gaussians of all sizes and any chunk."""
    gaussians, view = cloud(40, scale=scale, seed=3), camera(side)
    projected = project_gaussians(gaussians, view)
    opacities, seen = gaussians.opacity_logits.sigmoid(), colours(gaussians, view.position)
    picture, alphas, _ = dense(projected.means, projected.conics, projected.depths, opacities, seen, side)
    for chunk in (1, 1 << 17):
        monkeypatch.setattr(rasteriser, "_CHUNK", chunk)
        found = composite(projected, opacities.log(), seen, side)
        torch.testing.assert_close(found[..., :3], picture)
        torch.testing.assert_close(found[..., 3], alphas)


def test_an_opaque_stack_ends_before_its_transmittance_is_spent() -> None:
    """Of ten opaque Gaussians in a row only those before the limit of 1e-4 count, as in gsplat's kernel."""
    one = cloud(1)
    stack = Gaussians(
        means=torch.linspace(-0.1, 0.1, 10, dtype=torch.float64)[:, None] * torch.tensor([0.0, 0.0, 1.0]),
        quaternions=one.quaternions.repeat(10, 1),
        log_scales=torch.full((10, 3), -2.0, dtype=torch.float64),
        opacity_logits=torch.full((10,), 3.0, dtype=torch.float64),
        harmonics=torch.randn(10, 1, 3, generator=torch.Generator().manual_seed(1)).double(),
    )
    view = camera(8, azimuth_deg=0.0, elevation_deg=0.0)
    projected, opacities = project_gaussians(stack, view), stack.opacity_logits.sigmoid()
    seen = colours(stack, view.position)
    picture, alphas, _ = dense(projected.means, projected.conics, projected.depths, opacities, seen, 8)
    found = draw(stack, view, background=0.0)
    assert float(alphas.max()) < 1 - 1e-4
    torch.testing.assert_close(found.rgb, picture)
    torch.testing.assert_close(found.alpha, alphas)


def test_gradients_are_those_of_the_formulas() -> None:
    """Analytic gradients of all parameters equal central differences."""
    gaussians, view = cloud(6, degree=1), camera(12)
    weights = torch.randn(12, 12, 3, generator=torch.Generator().manual_seed(2)).double()

    def loss(*values):
        drawing = draw(Gaussians(**dict(zip(FIELDS, values, strict=True))), view)
        return (weights * drawing.rgb).sum() + drawing.alpha.square().sum()

    inputs = [getattr(gaussians, name).clone().requires_grad_() for name in FIELDS]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-4, rtol=1e-4)


def test_single_precision_is_close_to_double() -> None:
    """Within a level of an 8-bit picture; alphas at the limit of 1/255 may fall on either side."""
    gaussians = cloud(400, scale=-4.5)
    exact = draw(gaussians, camera(64))
    found = draw(gaussians.to(torch.float32), camera(64, torch.float32))
    assert float((found.rgb - exact.rgb).abs().max()) < 1 / 255
    assert float((found.rgb - exact.rgb).abs().mean()) < 1e-5


def test_nothing_in_view_is_background() -> None:
    """Gaussians behind the camera, or without opacity, leave the background and have gradients of zero."""
    gaussians, view = cloud(5), camera(16)
    behind = replace(gaussians, means=gaussians.means + 10 * view.position)
    clear = replace(gaussians, opacity_logits=torch.full((5,), -800.0, dtype=torch.float64).requires_grad_())
    for each in (behind, clear):
        found = draw(each, view, background=torch.tensor([0.25, 0.5, 0.75]).double())
        assert torch.equal(found.alpha, torch.zeros(16, 16).double())
        assert torch.equal(found.rgb[3, 5], torch.tensor([0.25, 0.5, 0.75]).double())
    found.rgb.sum().backward()
    assert clear.opacity_logits.grad is not None
    assert not clear.opacity_logits.grad.any()
