"""Heads with similar identities: near-duplicates of a dataset, and generated heads near training heads.

Similarity is the cosine between identity embeddings. All pairs of a dataset are compared in blocks, so memory grows
with the number of heads, not with its square: 10,000 heads take seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from spinmeround.models.metrics.definitions import signed_text
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.report.curves import Tick
from spinmeround.tasks.report.data import Likeness, Likenesses, NovelViews, Pictured

BINS = 100
"""Equal bins of similarity from -1 to 1."""
BLOCK = 512
SAMPLED = 64
"""Heads from which the similarity of two views of one head is taken."""
WIDTH, HEIGHT = 350, 210
LEFT, RIGHT, TOP, BOTTOM = 34, WIDTH - 10, 14, HEIGHT - 40


@dataclass(frozen=True, kw_only=True)
class SimilarityDrawing:
    """Bars of each head's most similar other head, a line of all pairs, and the place of two views of one head."""

    bars: str
    line: str
    same_head: float | None
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All pairs of some identities: histograms as in `Likenesses`, and the most similar pairs, the first one first."""

    nearest: Int[np.ndarray, " bin"]
    pairs: Int[np.ndarray, " bin"]
    closest: tuple[tuple[int, int, float], ...]


def compare_identities(identities: Float32[np.ndarray, "head 512"], most: int) -> Compared:
    """Compare all pairs of heads; returns at most `most` of them. Ties are in the order of the heads."""
    unit = identities / np.maximum(np.linalg.norm(identities, axis=1, keepdims=True), 1e-12)
    heads = len(unit)
    nearest, pairs = np.full(heads, -2.0, np.float32), np.zeros(BINS, np.int64)
    closest: list[tuple[float, int, int]] = []
    for start in range(0, heads, BLOCK):
        block = unit[start : start + BLOCK] @ unit[start:].T
        later = np.arange(block.shape[1])[None, :] > np.arange(block.shape[0])[:, None]
        pairs += np.bincount(_bins(block[later]), minlength=BINS)
        block[~later] = -2.0
        stop = start + len(block)
        nearest[start:stop] = np.maximum(nearest[start:stop], block.max(axis=1))
        nearest[start:] = np.maximum(nearest[start:], block.max(axis=0))
        for place in _highest(block.ravel(), min(most, int(later.sum()))):
            row, column = divmod(int(place), block.shape[1])
            closest.append((-round(float(block[row, column]), 6), start + row, start + column))
        closest = sorted(closest)[:most]
    return Compared(
        nearest=np.bincount(_bins(nearest[nearest >= -1.5]), minlength=BINS),
        pairs=pairs,
        closest=tuple((first, second, -value) for value, first, second in closest),
    )


def read_likenesses(dataset: HeadDataset, most: int) -> Likenesses | None:
    """The similarities of a dataset's heads, with pictures of the `most` similar pairs; None of a single head."""
    if len(dataset) < 2:
        return None
    found, same_head = compare_identities(dataset.identities, most), same_head_similarity(dataset)
    return Likenesses(
        heads=len(dataset),
        nearest=found.nearest,
        pairs=found.pairs,
        same_head=same_head,
        closest=tuple(
            Likeness(
                pictures=(front_picture(dataset, first), front_picture(dataset, second)),
                values={"similarity": value},
                remarkable=same_head is not None and value >= same_head,
            )
            for first, second, value in found.closest
        ),
    )


def same_head_similarity(dataset: HeadDataset) -> float | None:
    """Median similarity of two views of one head, over an evenly spaced sample of heads; None without such views."""
    found = []
    for subject in (
        [number * len(dataset) // SAMPLED for number in range(SAMPLED)]
        if len(dataset) > SAMPLED
        else range(len(dataset))
    ):
        views = dataset.read_views(subject, range(dataset.views), ["identity_views"])["identity_views"]
        views = views[np.isfinite(views).all(axis=1)]
        if len(views) > 1:
            unit = views / np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-12)
            found.append((unit @ unit.T)[np.triu_indices(len(views), 1)])
    return float(np.median(np.concatenate(found))) if found else None


def front_picture(dataset: HeadDataset, subject: int) -> Pictured:
    """The view of a head nearest to the front."""
    view = dataset.nearest_view()
    found = dataset.read_views(subject, [view], ["rgb", "mask"])
    return Pictured(caption=dataset.ids[subject], rgb=found["rgb"][0], mask=found["mask"][0])


def read_memorised(
    dataset: HeadDataset, identities: Mapping[str, Any] | None, views: Sequence[NovelViews]
) -> tuple[Likeness, ...] | str:
    """Generated heads beside the training heads that they are most similar to, or why this is not known.

    The first is the one that is nearest to a training head, compared with the truth.

    `identities` are those of an `evaluation.json`, None of one without them.
    """
    if identities is None:
        return "the evaluation is of an earlier version"
    if identities["missing"]:
        return str(identities["missing"])
    shown, subjects = {each.id: each for each in views}, {id: number for number, id in enumerate(dataset.ids)}
    heads = [head for head in identities["heads"] if head["id"] in shown and head["nearest"] in subjects]
    heads.sort(key=lambda head: (head["own"] - head["nearest_similarity"], head["id"]))
    return tuple(_memorised(head, shown[head["id"]], dataset, subjects[head["nearest"]]) for head in heads)


def similarity_drawing(found: Likenesses) -> SimilarityDrawing:
    """The histograms of similarity, each drawn to its own scale."""
    from matplotlib.ticker import MaxNLocator

    edges = np.linspace(-1.0, 1.0, BINS + 1)
    used = np.flatnonzero(found.nearest + found.pairs)
    low, high = float(edges[max(used[0] - 1, 0)]), float(edges[min(used[-1] + 2, BINS)])
    if found.same_head is not None:
        low, high = min(low, found.same_head - 0.02), max(high, min(found.same_head + 0.02, 1.0))

    def x(value: float) -> float:
        return float(LEFT + (value - low) / (high - low) * (RIGHT - LEFT))

    tallest = int(found.nearest.max())
    bars = [
        f"M{x(edges[bin]):.1f} {BOTTOM}V{_height(count, tallest):.1f}H{x(edges[bin + 1]):.1f}V{BOTTOM}Z"
        for bin, count in enumerate(found.nearest)
        if count
    ]
    points = [
        f"{x((edges[bin] + edges[bin + 1]) / 2):.1f} {_height(found.pairs[bin], int(found.pairs.max())):.1f}"
        for bin in range(max(used[0] - 1, 0), min(used[-1] + 2, BINS))
    ]
    return SimilarityDrawing(
        bars="".join(bars),
        line="M" + "L".join(points),
        same_head=None if found.same_head is None else x(found.same_head),
        x_ticks=tuple(
            Tick(at=x(at), label=signed_text(f"{at:g}"))
            for at in MaxNLocator(nbins=5).tick_values(low, high)
            if low <= at <= high
        ),
        y_ticks=tuple(
            Tick(at=_height(at, tallest), label=f"{at:,.0f}")
            for at in MaxNLocator(nbins=4, integer=True).tick_values(0, tallest)
            if 0 <= at <= tallest
        ),
        summary=_summary(found, edges),
    )


def _summary(found: Likenesses, edges: Float[np.ndarray, " edge"]) -> str:
    middle = np.searchsorted(np.cumsum(found.nearest), found.nearest.sum() / 2)
    text = (
        f"{found.heads:,} heads, {int(found.pairs.sum()):,} pairs. The most similar other head of a head has a median "
        f"similarity of {signed_text(f'{(edges[middle] + edges[middle + 1]) / 2:.2f}')}"
    )
    if found.same_head is None:
        return text + "."
    above = int(found.pairs[_bins(np.array([found.same_head]))[0] + 1 :].sum())
    pairs = {0: "no pair of heads is", 1: "one pair of heads is"}.get(above, f"{above:,} pairs of heads are")
    return f"{text}; two views of one head {signed_text(f'{found.same_head:.2f}')}, and {pairs} more similar than that."


def _memorised(head: Mapping[str, Any], views: NovelViews, dataset: HeadDataset, nearest: int) -> Likeness:
    turned = np.abs(180 - (180 - views.azimuth_deg.astype(np.float64)) % 360) + np.abs(views.elevation_deg)
    view = int(np.argmin(turned))
    return Likeness(
        pictures=(
            Pictured(caption=f"{head['id']}, generated", rgb=views.generated_rgb[view]),
            Pictured(caption=f"{head['id']}, truth", rgb=views.true_rgb[view]),
            replace(front_picture(dataset, nearest), mask=None),  # on white, as the others are
        ),
        values={"truth": head["own"], "training head": head["nearest_similarity"]},
        remarkable=head["nearest_similarity"] > head["own"],
    )


def _highest(values: Float32[np.ndarray, " value"], number: int) -> Int[np.ndarray, " place"]:
    """Indices of the highest values; of equal ones, the first."""
    if number == 0:
        return np.zeros(0, np.int64)
    lowest = np.partition(values, values.size - number)[values.size - number]
    above = np.flatnonzero(values > lowest)
    return np.concatenate([above, np.flatnonzero(values == lowest)[: number - len(above)]])


def _bins(similarity: Float[np.ndarray, " value"]) -> Int[np.ndarray, " value"]:
    return np.clip((similarity + 1.0) * (BINS / 2), 0, BINS - 1).astype(np.int64)


def _height(count: float, tallest: int) -> float:
    return float(BOTTOM - count / max(tallest, 1) * (BOTTOM - TOP))
