"""Draws 3D Gaussians from a camera, differentiably: in torch on a CPU, by gsplat on a GPU.

Both composite the same picture, front to back (Kerbl et al. 2023, equation 3): a Gaussian covers a pixel with alpha =
min(0.999, opacity exp(-d^T C d / 2)), one below 1/255 is left out, and a pixel is finished before its transmittance
falls to 1e-4. The torch rasteriser is dense within tiles: each tile of 8 x 8 pixels has the list of the Gaussians that
reach it, sorted by depth, and lists of similar length are padded and computed together.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from spinmeround.models.reconstruction.gaussians import Gaussians, colours
from spinmeround.models.reconstruction.projection import BLUR, NEAR, PixelCamera, Projected, project_gaussians

TILE = 8
"""Side of a tile in pixels."""
MIN_ALPHA, MAX_ALPHA, MIN_TRANSMITTANCE = 1 / 255, 0.999, 1e-4
_CHUNK = 1 << 17
"""Pairs of a Gaussian and a pixel that are computed together: what stays in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture of Gaussians: `rgb` over the background, `alpha`, and the image positions and extents of each.

    The picture depends on `means` itself, so that its gradient, by which gsplat's strategies densify, can be retained.
    """

    rgb: Float[Tensor, "height width 3"]
    alpha: Float[Tensor, "height width"]
    means: Float[Tensor, "1 gaussian 2"]
    radii: Float[Tensor, "1 gaussian 2"]


def draw(gaussians: Gaussians, camera: PixelCamera, background: Float[Tensor, "3"] | float = 1.0) -> Drawing:
    """The picture of a camera; `background` is a colour of 0 to 1."""
    behind = torch.as_tensor(background, dtype=gaussians.means.dtype, device=gaussians.means.device).expand(3)
    if gaussians.means.device.type == "cuda":
        return _draw_by_gsplat(gaussians, camera, behind)
    projected = project_gaussians(gaussians, camera)
    means = projected.means[None]
    seen = colours(gaussians, camera.position)
    log_opacities = torch.nn.functional.logsigmoid(gaussians.opacity_logits)
    painted = composite(replace(projected, means=means[0]), log_opacities, seen, camera.side)
    alpha = painted[..., 3]
    rgb = painted[..., :3] + (1 - alpha)[..., None] * behind
    return Drawing(rgb=rgb, alpha=alpha, means=means, radii=projected.radii[None])


def _draw_by_gsplat(gaussians: Gaussians, camera: PixelCamera, background: Float[Tensor, "3"]) -> Drawing:
    from gsplat import rasterization  # compiles its kernels

    rgb, alpha, info = rasterization(
        means=gaussians.means,
        quats=gaussians.quaternions,
        scales=gaussians.log_scales.exp(),
        opacities=gaussians.opacity_logits.sigmoid(),
        colors=colours(gaussians, camera.position),
        viewmats=camera.world2cam[None],
        Ks=camera.intrinsics[None],
        width=camera.side,
        height=camera.side,
        near_plane=NEAR,
        eps2d=BLUR,
        packed=False,
        backgrounds=background[None],
    )
    radii = info["radii"].to(gaussians.means.dtype)
    return Drawing(rgb=rgb[0], alpha=alpha[0, ..., 0], means=info["means2d"], radii=radii)


def composite(
    projected: Projected,
    log_opacities: Float[Tensor, " gaussian"],
    seen: Float[Tensor, "gaussian 3"],
    side: int,
) -> Float[Tensor, "side side 4"]:
    """Colours and alphas of a picture on black."""
    columns = -(-side // TILE)
    lists = _tile_lists(projected, log_opacities.detach(), columns)
    features = torch.cat([projected.means, projected.conics, log_opacities[:, None], seen], dim=-1)
    nothing = features.new_tensor([0, 0, 1, 0, 1, -torch.inf, 0, 0, 0])
    features = torch.cat([features, nothing[None]])
    painted = [
        _composite_tiles(features[each.members], _tile_centres(each.tiles, columns).to(features)) for each in lists
    ]
    # the sum of nothing is zero, and gives a picture without Gaussians gradients of zero
    tiles = features.new_zeros(columns * columns, TILE * TILE, 4) + features[:0].sum()
    if painted:
        tiles = tiles.index_copy(0, torch.cat([each.tiles for each in lists]), torch.cat(painted))
    picture = rearrange(tiles, "(r c) (y x) k -> (r y) (c x) k", r=columns, y=TILE)
    return picture[:side, :side]


@dataclass(frozen=True, kw_only=True)
class _TileLists:
    """The Gaussians of some tiles, front to back; lists are padded with the index of a Gaussian that is nothing."""

    tiles: Int[Tensor, " tile"]
    members: Int[Tensor, "tile member"]


@torch.no_grad()
def _tile_lists(projected: Projected, log_opacities: Float[Tensor, " gaussian"], columns: int) -> list[_TileLists]:
    """Lists of the tiles that any Gaussian reaches, longest first, in chunks."""
    members, tiles = _pairs(projected, log_opacities, columns)
    counts = torch.bincount(tiles, minlength=columns * columns)
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending=True)
    used, found = int((counts > 0).sum()), []
    begin = 0
    while begin < used:
        longest = int(counts[order[begin]])
        end = min(used, begin + max(1, _CHUNK // (longest * TILE * TILE)))
        chunk = order[begin:end]
        places = torch.arange(longest, device=counts.device)
        inside = places < counts[chunk, None]
        index = torch.where(inside, starts[chunk, None] + places, 0)
        found.append(_TileLists(tiles=chunk, members=torch.where(inside, members[index], len(log_opacities))))
        begin = end
    return found


def _pairs(
    projected: Projected, log_opacities: Float[Tensor, " gaussian"], columns: int
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Gaussians and the tiles that they reach, sorted by tile and then by depth."""
    xx, xy, yy = projected.conics.unbind(-1)
    # the ellipse on which alpha is MIN_ALPHA, with the covariance from its inverse
    excess = log_opacities - math.log(MIN_ALPHA)
    reach = (2 * excess.clamp_min(0) / (xx * yy - xy * xy))[:, None]
    extent = (reach * torch.stack([yy, xx], dim=-1)).sqrt()
    shown = torch.nonzero(projected.visible & (excess >= 0))[:, 0]
    shown = shown[projected.depths[shown].argsort(stable=True)]
    low, high = (
        ((projected.means + sign * extent)[shown] / TILE).floor().long().clamp(0, columns - 1) for sign in (-1, 1)
    )
    size = high - low + 1  # gaussian 2
    number = size.prod(dim=-1)
    which = torch.repeat_interleave(number)
    place = torch.arange(len(which), device=which.device) - (number.cumsum(0) - number)[which]
    row = low[which, 1] + place // size[which, 0]
    tile = row * columns + low[which, 0] + place % size[which, 0]
    tile, order = tile.sort(stable=True)
    return shown[which[order]], tile


def _tile_centres(tiles: Int[Tensor, " tile"], columns: int) -> Float[Tensor, "tile 2"]:
    return (torch.stack([tiles % columns, tiles // columns], dim=-1) + 0.5) * TILE


def _composite_tiles(
    features: Float[Tensor, "tile member 9"], centres: Float[Tensor, "tile 2"]
) -> Float[Tensor, "tile pixel 4"]:
    """Colours and alphas of the pixels of some tiles, row by row.

    The logarithm of alpha is a polynomial of degree two of the position in the tile, so a product of matrices gives it.
    """
    x, y = (features[..., :2] - centres[:, None]).unbind(-1)  # tile member
    xx, xy, yy, log_opacity = features[..., 2:6].unbind(-1)
    along_x, along_y = xx * x + xy * y, xy * x + yy * y
    constant = log_opacity - 0.5 * (along_x * x + along_y * y)
    polynomial = torch.stack([-0.5 * xx, -xy, -0.5 * yy, along_x, along_y, constant], dim=-1)  # tile member 6
    painted = torch.cat([features[..., 6:], torch.ones_like(features[..., :1])], dim=-1)  # tile member 4
    found: Tensor = _Compositing.apply(polynomial, painted, _monomials(features))
    return found


class _Compositing(torch.autograd.Function):
    """Sums of the painted values, weighted by alpha times transmittance, front to back.

    With alpha a, transmittance T before and after a Gaussian, weight w = a T and h = dL/dw, the gradient of the
    logarithm of alpha is w h - a / (1 - a) times the sum of w h over all Gaussians behind. Written by hand, forward and
    backward together take half the time of autograd's.
    """

    @staticmethod
    def forward(ctx: Any, polynomial: Tensor, painted: Tensor, monomials: Tensor) -> Tensor:
        alpha = (monomials @ polynomial.mT).exp_()  # tile pixel member
        alpha = torch.threshold_(alpha, MIN_ALPHA, 0.0).clamp_max_(MAX_ALPHA)
        after = (1 - alpha).cumprod_(dim=-1)
        weights = torch.empty_like(after)
        torch.sub(1, after[..., 0], out=weights[..., 0])
        torch.sub(after[..., :-1], after[..., 1:], out=weights[..., 1:])
        weights.mul_(after > MIN_TRANSMITTANCE)
        ctx.save_for_backward(alpha, weights, painted, monomials)
        return weights @ painted

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        alpha, weights, painted, monomials = ctx.saved_tensors
        share = (gradient @ painted.mT).mul_(weights)  # tile pixel member
        behind = share.cumsum(dim=-1)
        behind.neg_().add_(-behind[..., -1:])
        own = share.sub_(behind.mul_(alpha / (1 - alpha))).mul_(alpha < MAX_ALPHA)
        return own.mT @ monomials, weights.mT @ gradient, None


def _monomials(like: Tensor) -> Float[Tensor, "pixel 6"]:
    """x^2, xy, y^2, x, y and 1 at the pixel centres of a tile, from the tile's centre."""
    centre = torch.arange(TILE, dtype=like.dtype, device=like.device) + 0.5 - TILE / 2
    y, x = (each.reshape(-1) for each in torch.meshgrid(centre, centre, indexing="ij"))
    return torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)], dim=-1)
