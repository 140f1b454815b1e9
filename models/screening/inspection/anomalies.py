"""Random anomalies, painted onto the previews of clean heads.

What an inspector network (`network`) learns from, so that it does not learn a list of defects; after DRAEM (Zavrtanik
et al., "DRAEM - A discriminatively trained reconstruction embedding for surface anomaly detection", ICCV 2021,
arXiv:2108.07610) and CutPaste (Li et al., CVPR 2021). An anomaly is one to three changes of what a view shows: its
pixels move, come from elsewhere, get another colour or relief, vanish, or are covered. Shapes, places and strengths are
random, down to changes that nobody sees. A change takes views and random numbers, and returns new views.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spinmeround.models.screening.inspection.places import (
    DEPTH,
    KNOWN,
    MASK,
    Draw,
    Numbers,
    Place,
    Planes,
    Views,
    grid,
    middle_column,
    outline,
    random_place,
    sampled,
    with_depth,
)

PIXEL = 0.0099
"""Width of a pixel of a 64 px view at the head's centre, in sides of the cube; relief is shaded by its slope."""

VISIBLE = (0.08, 0.35, 0.008)
"""Differences of a colour, the mask and the depth (in sides of the cube) from which a pixel is changed; a third of them
is doubtful."""

LEAST_CHANGED, CERTAIN_CHANGED = 10, 40
"""Numbers of changed pixels from which a view is anomalous, and certainly so; views with fewer are doubtful."""


def warp(views: Views, draw: Draw) -> Views:
    """Shift, scale, turn or crumple a blob of all channels."""
    place, (rows, columns) = random_place(draw, views, (3.0, 26.0)), grid(views)
    down, right = rows - place.row, columns - place.column
    kind, size, side = draw.which(4), place.radius, views.shape[2]
    shift = draw.log_uniform(0.6, 9.0).minimum(0.8 * size)
    angle, stretch = draw.sign() * draw.log_uniform(0.1, 1.5), draw.normal(0.4)
    turn = torch.cos(angle) - 1.0, torch.sin(angle)
    cells = draw.once(3, 16)
    crumple = draw.log_uniform(0.4, 3.0)
    direction = draw.uniform(-3.1416, 3.1416)
    moves_down = (shift * torch.sin(direction), stretch * down, turn[0] * down + turn[1] * right)
    moves_right = (shift * torch.cos(direction), stretch * right * draw.chance(0.7), turn[0] * right - turn[1] * down)
    by_row = _selected(kind, (*moves_down, crumple * draw.field(side, cells)))
    by_column = _selected(kind, (*moves_right, crumple * draw.field(side, cells)))
    found = sampled(views, rows + place.weight * by_row, columns + place.weight * by_column)
    return _pushed(found, place.weight * draw.normal(0.03) * draw.chance(0.4))


def stretch(views: Views, draw: Draw) -> Views:
    """Widen, narrow or slide a band of rows, or of columns, so that outlines change."""
    (rows, columns), side = grid(views), views.shape[2]
    upright = draw.chance(0.7)
    at, _ = draw.pixel(views[:, MASK])
    middle = torch.where(upright > 0, middle_column(views), at)
    start = torch.where(upright > 0, at, middle_column(views) + draw.normal(10.0))
    along, across = torch.where(upright > 0, rows, columns), torch.where(upright > 0, columns, rows)
    edge = draw.log_uniform(0.5, 8.0)
    length = torch.where(draw.chance(0.4) > 0, 2.0 * side * torch.ones_like(at), draw.log_uniform(3.0, 30.0))
    window = torch.sigmoid((along - start) / edge) * torch.sigmoid((start + length - along) / edge)
    window = torch.where(draw.chance(0.4) > 0, 1.0 - window, window)
    scale = torch.exp(window * draw.sign() * draw.log_uniform(0.06, 0.9) * draw.chance(0.75))
    slide = window * draw.sign() * draw.log_uniform(0.7, 8.0) * draw.chance(0.35)
    lift = window * draw.sign() * draw.log_uniform(0.7, 8.0) * draw.chance(0.35)
    new_across, new_along = middle + (across - middle) / scale + slide, along + lift
    found = sampled(
        views,
        torch.where(upright > 0, new_along, new_across).expand(-1, side, side),
        torch.where(upright > 0, new_across, new_along).expand(-1, side, side),
    )
    deeper = torch.where(draw.chance(0.6) > 0, scale, torch.ones_like(scale))
    return _replaced(found, depth=found[:, DEPTH] * deeper)


def paste(views: Views, draw: Draw, donors: Views) -> Views:
    """A piece of the donors, turned, scaled or mirrored: its colours alone, or all of it."""
    place, (rows, columns) = random_place(draw, views, (3.0, 18.0)), grid(views)
    row, column = draw.pixel(donors[:, MASK])
    same = draw.chance(0.35)
    row, column = torch.lerp(row, place.row, same), torch.lerp(column, place.column, same)
    angle = draw.normal(0.5) * draw.chance(0.6)
    scale, mirror = torch.exp(draw.uniform(-0.6, 0.6) * draw.chance(0.6)), torch.where(draw.chance(0.3) > 0, -1.0, 1.0)
    down, right = (rows - place.row) / scale, mirror * (columns - place.column) / scale
    piece = sampled(
        donors,
        row + torch.cos(angle) * down - torch.sin(angle) * right,
        column + torch.cos(angle) * right + torch.sin(angle) * down,
    )
    gain = torch.exp(torch.randn(draw.count, 3, 1, 1, generator=draw.generator) * 0.15)
    rgb = 1.0 - piece[:, MASK : MASK + 1] * (1.0 - piece[:, :3] * gain)
    piece = torch.cat([rgb.clamp(0.0, 1.0), piece[:, 3:]], dim=1)
    level = draw.chance(0.7) * (_at(views, place) - _at(piece, place))
    piece = _pushed(piece, -(level + draw.normal(0.02) * draw.chance(0.5)))
    weight = place.weight * draw.uniform(0.35, 1.0).maximum(draw.chance(0.6))
    coloured = _coloured(views, piece[:, :3], weight * piece[:, MASK])
    return _chosen(draw.chance(0.5), coloured, _mixed(views, piece, place.weight))


def recolour(views: Views, draw: Draw) -> Views:
    """Another colour, gain, gradient, noise, stripes, order of the channels, or a blur of the colours."""
    place, rgb, side = random_place(draw, views, (2.0, 30.0)), views[:, :3], views.shape[2]
    rows, columns = grid(views)

    def channels(scale: float) -> Float[Tensor, "view 3 1 1"]:
        return scale * torch.randn(draw.count, 3, 1, 1, generator=draw.generator)

    def spread(values: Tensor) -> Tensor:
        return values[:, None]

    grey = channels(1.0).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    tint = torch.where(spread(draw.chance(0.5)) > 0, channels(0.6), 1.4 * grey)
    amount = spread(draw.log_uniform(0.08, 0.9))
    angle = draw.uniform(-3.1416, 3.1416)
    ramp = ((rows - place.row) * torch.sin(angle) + (columns - place.column) * torch.cos(angle)) / place.radius
    stripes = torch.sin(ramp * place.radius * 6.2832 / draw.log_uniform(2.5, 16.0))
    patterns = _selected(draw.which(4), (torch.ones_like(ramp), ramp.clamp(-1.5, 1.5), draw.field(side), stripes))
    gained = rgb * torch.exp(amount * tint * spread(patterns))
    flat = torch.rand(draw.count, 3, 1, 1, generator=draw.generator).expand_as(rgb)
    shaded = torch.lerp(rgb, flat * rgb.mean(1, keepdim=True) / 0.5, spread(draw.uniform(0.2, 1.0)))
    covered = torch.lerp(rgb, flat, spread(draw.uniform(0.1, 1.0)))
    speckled = rgb + amount * 0.5 * torch.randn(rgb.shape, generator=draw.generator)
    borrowed = rgb[:, torch.randperm(3, generator=draw.generator)]
    colours = _selected(draw.which(6)[..., None], (gained, gained, shaded, covered, speckled, borrowed))
    return _coloured(views, colours.clamp(0.0, 1.0), place.weight)


def relief(views: Views, draw: Draw) -> Views:
    """Bumps and dents of the surface, shaded by a lamp at a random place."""
    place, side = random_place(draw, views, (3.0, 30.0)), views.shape[2]
    rows, columns = grid(views)
    cells = draw.once(2, 26)
    angle, period = draw.uniform(-3.1416, 3.1416), draw.log_uniform(3.0, 16.0)
    stripes = torch.sin((rows * torch.sin(angle) + columns * torch.cos(angle)) * 6.2832 / period)
    noise = draw.field(side, cells)
    pimples = (noise - draw.uniform(0.2, 1.2)).clamp(min=0.0) * 1.5
    shape = _selected(draw.which(4), (torch.ones_like(noise), noise, pimples, stripes))
    coarse = torch.where(draw.chance(0.5) > 0, place.radius / 24.0, torch.full_like(place.radius, 3.0 / cells))
    height = place.weight * shape * draw.sign() * draw.log_uniform(0.006, 0.12) * coarse.clamp(0.1, 1.0)
    down, right = (torch.gradient(height, dim=axis)[0] / PIXEL for axis in (1, 2))
    lamp = draw.uniform(-3.1416, 3.1416)
    light = 1.0 + draw.uniform(0.1, 0.7) * (down * torch.sin(lamp) + right * torch.cos(lamp)).clamp(-1.0, 0.9)
    shaded = _coloured(views, (views[:, :3] * light[:, None]).clamp(0.0, 1.0), torch.ones_like(height))
    return _pushed(shaded, -height)


def remove(views: Views, draw: Draw) -> Views:
    """A hole through the head, a piece cut off its outline, or a deep dark place."""
    at = torch.where(draw.chance(0.5) > 0, outline(views), views[:, MASK])
    place = random_place(draw, views, (1.5, 12.0), at=at, sharpest=30.0)
    gone = _mixed(views, torch.cat([torch.ones_like(views[:, :3]), torch.zeros_like(views[:, 3:])], 1), place.weight)
    dark = draw.uniform(0.0, 1.2)[:, None] * torch.rand(draw.count, 3, 1, 1, generator=draw.generator).lerp(
        torch.ones(draw.count, 3, 1, 1), draw.uniform(0.5, 1.0)[:, None]
    )
    deep = _coloured(views, (views[:, :3] * dark).clamp(0.0, 1.0), place.weight)
    return _chosen(draw.chance(0.6), gone, _pushed(deep, place.weight * draw.uniform(0.01, 0.25)))


def add(views: Views, draw: Draw) -> Views:
    """A blob or a bar on the head or at its outline, round or flat, in a colour of the head or any other."""
    near = torch.where(draw.chance(0.6) > 0, outline(views), views[:, MASK])
    near = torch.where(draw.chance(0.15) > 0, torch.ones_like(near), near)
    place = random_place(draw, views, (1.2, 9.0), at=near, sharpest=40.0, aspect=1.5)
    row, column = draw.pixel(views[:, MASK])
    own = _pixel(views, row, column)[:, :3]
    colour = torch.where(draw.chance(0.7)[:, None] > 0, own, torch.rand(own.shape, generator=draw.generator))
    bulge = (1.0 - place.distance.square()).clamp(min=0.0).sqrt()
    light = torch.lerp(torch.ones_like(bulge), 0.5 + 0.6 * bulge, draw.uniform(0.0, 1.0))
    light = light * (1.0 + 0.1 * draw.chance(0.4) * draw.field(views.shape[2], draw.once(6, 26)))
    rgb = (colour * light[:, None]).clamp(0.0, 1.0)
    surface = torch.where(views[:, KNOWN] > 0, views[:, DEPTH], draw.normal(0.08).expand_as(bulge))
    level = torch.where(draw.chance(0.5) > 0, surface, _at(views, place).expand_as(surface))
    depth = level - bulge * place.radius * PIXEL * draw.uniform(0.0, 1.0) - draw.uniform(0.0, 0.03)
    solid = torch.ones_like(depth)
    piece = torch.cat([rgb, torch.stack([solid, depth, solid], dim=1)], dim=1)
    return _mixed(views, piece, place.weight)


def smooth(views: Views, draw: Draw) -> Views:
    """Features vanish: colours and depth are blurred."""
    place, width = random_place(draw, views, (4.0, 24.0)), 2 * draw.once(1, 6) + 1

    def blur(x: Tensor) -> Tensor:
        once = F.avg_pool2d(x, width, 1, width // 2, count_include_pad=False)
        return F.avg_pool2d(once, width, 1, width // 2, count_include_pad=False)

    mask, known = views[:, MASK : MASK + 1], views[:, KNOWN : KNOWN + 1]
    rgb = 1.0 - blur(mask - mask * views[:, :3]) / blur(mask).clamp(min=1e-3)
    depth = blur(views[:, DEPTH : DEPTH + 1] * known) / blur(known).clamp(min=1e-3)
    kind = draw.which(3)
    of_colour, of_depth = (place.weight * (kind != skipped) for skipped in (1, 2))
    coloured = _coloured(views, rgb.clamp(0.0, 1.0), of_colour)
    return _replaced(coloured, depth=torch.lerp(views[:, DEPTH], depth[:, 0], of_depth))


def exchange(views: Views, draw: Draw, donors: Views) -> Views:
    """The whole head of the donors, which another azimuth shows."""
    return donors


CHANGES: tuple[tuple[Callable[..., Views], float], ...] = (
    (warp, 0.19),
    (stretch, 0.15),
    (paste, 0.18),
    (recolour, 0.15),
    (relief, 0.12),
    (remove, 0.07),
    (add, 0.09),
    (smooth, 0.05),
)
"""Each change and the share of them that it is."""

EXCHANGED = 0.03
"""Share of the views that show another azimuth of the same head."""


def painted(views: Views, others: Views, strangers: Views, generator: torch.Generator) -> Views:
    """The views with one to three random changes each.

    `others` show the same heads from other azimuths, `strangers` other heads: pieces are taken from them.
    """
    found, count = views.clone(), len(views)
    shares = torch.tensor([share for _, share in CHANGES])
    numbers = 1 + sum((torch.rand(count, generator=generator) < share).long() for share in (0.4, 0.2))
    for layer in range(3):
        kinds = torch.multinomial(shares, count, replacement=True, generator=generator)
        for index, (change, _) in enumerate(CHANGES):
            rows = torch.nonzero((kinds == index) & (numbers > layer))[:, 0]
            if not len(rows):
                continue
            draw = Draw(generator, len(rows))
            more = (_donors(draw, views[rows], others[rows], strangers[rows]),) if change is paste else ()
            found[rows] = change(found[rows], draw, *more)
    exchanged = torch.rand(count, 1, 1, 1, generator=generator) < EXCHANGED
    return torch.where(exchanged, others, found)


def differences(
    clean: Views, found: Views
) -> tuple[Float[Tensor, "view h w"], Float[Tensor, "view h w"], Float[Tensor, " view"], Float[Tensor, " view"]]:
    """Which pixels are changed (1) or not (0), and how certain that is (0 to 1); then the same of whole views."""
    colour, mask, depth = VISIBLE
    both = clean[:, KNOWN] * found[:, KNOWN]
    parts = (
        (clean[:, :3] - found[:, :3]).abs().amax(1) / colour,
        (clean[:, MASK] - found[:, MASK]).abs() / mask,
        (clean[:, DEPTH] - found[:, DEPTH]).abs() * both / depth,
    )
    size = torch.stack(parts).amax(0)
    changed = (size > 1.0).float()
    certain = 1.0 - ((size > 1 / 3) & (size <= 1.0)).float()
    count = changed.sum((1, 2))
    same = (size.amax((1, 2)) < 1e-3).float()
    anomalous = (count >= LEAST_CHANGED).float()
    return changed, certain, anomalous, torch.where(anomalous > 0, (count / CERTAIN_CHANGED).clamp(max=1.0), same)


def _donors(draw: Draw, own: Views, others: Views, strangers: Views) -> Views:
    return _selected(draw.which(3)[..., None], (own, others, strangers))


def _selected(which: Tensor, choices: tuple[Tensor, ...]) -> Tensor:
    """For each view the choice of its index."""
    found = choices[0]
    for index, each in enumerate(choices[1:], start=1):
        found = torch.where(which == index, each, found)
    return found


def _chosen(first: Numbers, one: Views, other: Views) -> Views:
    return torch.where(first[:, None] > 0, one, other)


def _replaced(views: Views, *, depth: Planes) -> Views:
    known = views[:, KNOWN]
    return torch.cat([views[:, :DEPTH], (depth * known)[:, None], known[:, None]], dim=1)


def _pushed(views: Views, further: Planes | Numbers) -> Views:
    """The surface further away by this much."""
    return _replaced(views, depth=views[:, DEPTH] + further)


def _coloured(views: Views, rgb: Float[Tensor, "view 3 h w"], weight: Planes) -> Views:
    """Other colours on the head, on a white background still."""
    weight = (weight * (views[:, MASK] > 0.02))[:, None]
    inside = views[:, MASK : MASK + 1]
    return torch.cat([torch.lerp(views[:, :3], torch.lerp(torch.ones_like(rgb), rgb, inside), weight), views[:, 3:]], 1)


def _mixed(views: Views, piece: Views, weight: Planes) -> Views:
    """The piece over the views."""
    weight = weight[:, None]
    near = torch.lerp(views[:, KNOWN:], piece[:, KNOWN:], weight)
    depth = torch.lerp(views[:, DEPTH:KNOWN] * views[:, KNOWN:], piece[:, DEPTH:KNOWN] * piece[:, KNOWN:], weight)
    return with_depth(
        torch.lerp(views[:, :3], piece[:, :3], weight), torch.lerp(views[:, 3:4], piece[:, 3:4], weight), depth, near
    )


def _pixel(views: Views, row: Numbers, column: Numbers) -> Float[Tensor, "view c 1 1"]:
    """Each view's values at a pixel."""
    side = views.shape[3]
    index = (row.round().long().clamp(0, side - 1) * side + column.round().long().clamp(0, side - 1))[:, 0]
    return views.flatten(2).gather(2, index[:, None].expand(-1, views.shape[1], -1))[..., None]


def _at(views: Views, place: Place) -> Numbers:
    """Depth at the centre of a place."""
    return _pixel(views, place.row, place.column)[:, DEPTH]
