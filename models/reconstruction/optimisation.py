"""Fits 3D Gaussians to posed pictures: L1, SSIM and LPIPS by Adam, with gsplat's densification.

The densification is `gsplat.strategy.DefaultStrategy`, which works on plain tensors and optimisers on any device. The
parameters have its names here. Its reset of opacities is left out: it removes what floats before the cameras of large
scenes, and a short optimisation does not recover from it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.reconstruction.gaussians import Gaussians
from spinmeround.models.reconstruction.losses import on_background, ssim
from spinmeround.models.reconstruction.params import SplatParams
from spinmeround.models.reconstruction.projection import PixelCamera
from spinmeround.models.reconstruction.rasteriser import Drawing, draw

Perceptual = Callable[[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]], Float[Tensor, ""]]
"""A differentiable distance of two pictures with colours of 0 to 1."""

Values = dict[str, torch.nn.Parameter]
Optimisers = dict[str, torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class FittedView:
    """One picture to fit: on white, 0 to 1, with its mask as alpha."""

    camera: PixelCamera
    rgb: Float[Tensor, "height width 3"]
    alpha: Float[Tensor, "height width"]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did: its number from 1, the loss, and the Gaussians after it."""

    step: int
    loss: float
    gaussians: int


def fit_gaussians(
    initial: Gaussians,
    views: Sequence[FittedView],
    params: SplatParams,
    *,
    perceptual: Perceptual | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> Gaussians:
    """The Gaussians after `params.steps` steps, on the device of `initial`.

    Raises:
        ValueError: without views, or if a loss is not finite.
    """
    if not views:
        raise ValueError("views: expected at least one to fit, got none")
    values = _values(initial)
    optimisers = _optimisers(values, params)
    strategy = _strategy(params)
    state = strategy.initialize_state(scene_scale=1.0)
    for step, number in enumerate(_order(len(views), params)):
        for group in optimisers["means"].param_groups:
            group["lr"] = params.rates.means * params.rates.final_share ** (step / params.steps)
        background = _background(params, step)
        view, drawing = views[number], draw(_gaussians(values), views[number].camera, background.to(initial.means))
        info = _info(drawing, view.camera.side)
        strategy.step_pre_backward(values, optimisers, state, step, info)
        target = on_background(view.rgb, view.alpha, background.to(view.rgb))
        loss = picture_loss(drawing.rgb, target, params, perceptual)
        if not bool(loss.isfinite()):
            raise ValueError(f"reconstruct: the loss of step {step + 1} is not finite; lower the learning rates")
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        strategy.grow_grad2d = params.densify.gradient if len(values["means"]) < params.densify.most else float("inf")
        with _seeded(params.seed, step):
            strategy.step_post_backward(values, optimisers, state, step, info)
        on_step(StepReport(step=step + 1, loss=loss.item(), gaussians=len(values["means"])))
    return _gaussians(values).detach()


def picture_loss(
    found: Float[Tensor, "height width 3"],
    target: Float[Tensor, "height width 3"],
    params: SplatParams,
    perceptual: Perceptual | None = None,
) -> Float[Tensor, ""]:
    """(1 - w) L1 + w (1 - SSIM) (Kerbl et al. 2023, equation 7), plus LPIPS if it is given."""
    weight = params.ssim_weight
    loss = (1 - weight) * (found - target).abs().mean()
    if weight:
        loss = loss + weight * (1 - ssim(found, target))
    if perceptual is not None and params.lpips_weight:
        loss = loss + params.lpips_weight * perceptual(found.clamp(0, 1), target)
    return loss


def _values(gaussians: Gaussians) -> Values:
    """The parameters by the names of gsplat's strategies."""
    tensors = {
        "means": gaussians.means,
        "quats": gaussians.quaternions,
        "scales": gaussians.log_scales,
        "opacities": gaussians.opacity_logits,
        "sh0": gaussians.harmonics[:, :1],
        "shN": gaussians.harmonics[:, 1:],
    }
    return {name: torch.nn.Parameter(tensor.detach().clone()) for name, tensor in tensors.items()}


def _gaussians(values: Mapping[str, Tensor]) -> Gaussians:
    return Gaussians(
        means=values["means"],
        quaternions=values["quats"],
        log_scales=values["scales"],
        opacity_logits=values["opacities"],
        harmonics=torch.cat([values["sh0"], values["shN"]], dim=1),
    )


def _optimisers(values: Values, params: SplatParams) -> Optimisers:
    rates = params.rates
    by_name = {
        "means": rates.means,
        "quats": rates.quaternions,
        "scales": rates.log_scales,
        "opacities": rates.opacity_logits,
        "sh0": rates.colours,
        "shN": rates.colours / 20,
    }
    return {name: torch.optim.Adam([values[name]], lr=rate, eps=1e-15) for name, rate in by_name.items()}


def _strategy(params: SplatParams) -> Any:
    densify = params.densify
    return DefaultStrategy(
        prune_opa=densify.min_opacity,
        grow_grad2d=densify.gradient,
        grow_scale3d=densify.large,
        refine_start_iter=densify.start,
        refine_stop_iter=int(densify.stop_share * params.steps),
        refine_every=densify.every,
        reset_every=params.steps + 1,
    )


def _info(drawing: Drawing, side: int) -> dict[str, Any]:
    """What gsplat's strategies read of a drawing."""
    return {
        "means2d": drawing.means,
        "radii": drawing.radii,
        "width": side,
        "height": side,
        "n_cameras": 1,
        "gaussian_ids": None,
    }


def _order(views: int, params: SplatParams) -> Iterator[int]:
    """The view of each step: all views in a random order, then in another."""
    for step in range(params.steps):
        if step % views == 0:
            random = torch.Generator().manual_seed(params.seed * 1_000_003 + step)
            order = torch.randperm(views, generator=random).tolist()
        yield order[step % views]


def _background(params: SplatParams, step: int) -> Float[Tensor, "3"]:
    random = torch.Generator().manual_seed(params.seed * 1_000_003 + 500_000_003 + step)
    share, colour = torch.rand(1, generator=random), torch.rand(3, generator=random)
    return colour if float(share) < params.random_background else torch.ones(3)


@contextmanager
def _seeded(seed: int, step: int) -> Iterator[None]:
    """Random numbers of this step inside the block, because gsplat draws from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed * 1_000_003 + 250_000_007 + step)
        yield
