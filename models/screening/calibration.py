"""Score limits from labelled heads; the only parameter is the acceptable loss, the share of clean heads dropped.

`choose_limits` first spends half of the loss on all scores equally, which also catches unlabelled kinds of defects with
outlying scores. It spends the other half greedily where it drops the most labelled defective heads per clean head lost.
A limit lies beyond the clean heads that it keeps, where their tail falls to the score's part of the loss: the fewer
heads, the farther. Only the limits are fitted. `cross_validated` estimates the result on unseen heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from spinmeround.models.screening.scores import SCORES, Score

LOSSES = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.07, 0.1)
"""Acceptable losses of the curve."""

LOOK_AHEAD = 6
"""Largest number of clean heads that one greedy step may lose."""

MARGIN = 0.25
"""Least distance of a limit from the worst clean head that it keeps, in distances of that head from the median."""


@dataclass(frozen=True, kw_only=True)
class LabelledScores:
    """Scores of heads and whether each head is defective; NaN for missing scores."""

    values: Float[np.ndarray, "head score"]
    defective: Bool[np.ndarray, " head"]

    @staticmethod
    def of(scores: Sequence[Mapping[str, float | None]], defective: Sequence[bool]) -> "LabelledScores":
        """From the scores of each head, by name."""
        rows = [[row.get(score.name) for score in SCORES] for row in scores]
        return LabelledScores(
            values=np.array(rows, np.float64).reshape(len(rows), len(SCORES)), defective=np.array(defective, bool)
        )

    def __getitem__(self, heads: Bool[np.ndarray, " head"] | Int[np.ndarray, " chosen"]) -> "LabelledScores":
        return LabelledScores(values=self.values[heads], defective=self.defective[heads])

    def badness(self) -> Float[np.ndarray, "head score"]:
        """Values with signs such that larger is worse; -inf for missing scores."""
        signed = self.values * np.array([1.0 if score.bad == "above" else -1.0 for score in SCORES])
        return np.where(np.isnan(signed), -np.inf, signed)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Shares of clean heads (`lost`) and of defective heads (`caught`) that limits for an acceptable loss drop."""

    allowed: float
    lost: float
    caught: float


def choose_limits(heads: LabelledScores, loss: float) -> dict[str, float]:
    """Limit of each score such that at most a share `loss` of the clean heads is dropped; none for missing scores.

    Raises:
        ValueError: if there is no clean head.
    """
    badness = heads.badness()
    good, bad = badness[~heads.defective], badness[heads.defective]
    if not len(good):
        raise ValueError("labels: expected at least one clean head, found none; label some heads as clean")
    measured = int(np.isfinite(good).any(axis=0).sum())
    tail = float(np.log(0.5 * max(measured, 1) / max(loss, LOSSES[0])))
    ranks = _ranks(good, bad, tail, allowed=int(loss * len(good)))
    limits = [_limit_over(np.sort(column)[::-1][rank:], tail) for column, rank in zip(good.T, ranks, strict=True)]
    return {
        score.name: limit if score.bad == "above" else -limit
        for score, limit in zip(SCORES, limits, strict=True)
        if np.isfinite(limit)
    }


def dropped(heads: LabelledScores, limits: Mapping[str, float]) -> Bool[np.ndarray, " head"]:
    """Which heads these limits drop."""
    is_dropped = np.zeros(len(heads.values), bool)
    for score, column in zip(SCORES, heads.values.T, strict=True):
        if score.name in limits:
            is_dropped |= _beyond(score, column, limits[score.name])
    return is_dropped


def shares(heads: LabelledScores, limits: Mapping[str, float]) -> tuple[float, float]:
    """Shares of the clean and of the defective heads that these limits drop; NaN for a kind without heads."""
    is_dropped = dropped(heads, limits)
    clean, defective = is_dropped[~heads.defective], is_dropped[heads.defective]
    return (
        float(clean.mean()) if len(clean) else float("nan"),
        float(defective.mean()) if len(defective) else float("nan"),
    )


def cross_validated(heads: LabelledScores, folds: int = 5, seed: int = 0) -> list[CurvePoint]:
    """The curve over LOSSES; limits for each head are chosen without its fold."""
    curve = []
    for loss in LOSSES:
        is_dropped = held_out_drops(heads, loss, folds, seed)
        curve.append(
            CurvePoint(
                allowed=loss,
                lost=float(is_dropped[~heads.defective].mean()),
                caught=float(is_dropped[heads.defective].mean()),
            )
        )
    return curve


def held_out_drops(heads: LabelledScores, loss: float, folds: int = 5, seed: int = 0) -> Bool[np.ndarray, " head"]:
    """Which heads are dropped by limits for this loss that are chosen without their fold."""
    order = np.random.default_rng(seed).permutation(len(heads.values))
    fold = np.empty(len(order), int)
    fold[order] = np.arange(len(order)) % folds
    is_dropped = np.zeros(len(order), bool)
    for each in range(folds):
        is_dropped[fold == each] = dropped(heads[fold == each], choose_limits(heads[fold != each], loss))
    return is_dropped


def pick(curve: Sequence[CurvePoint], *, keep: float | None = None, recall: float | None = None) -> CurvePoint:
    """The point with the highest recall that keeps a share `keep` of the clean heads, or the point that keeps most of
    them at a share `recall` of defective heads dropped.

    Raises:
        ValueError: if no point reaches the target, with the best value; or unless exactly one target is given.
    """
    if (keep is None) == (recall is None):
        raise ValueError("keep, recall: expected exactly one of the two")
    if keep is not None:
        fit = [point for point in curve if 1.0 - point.lost >= keep]
        if fit:
            return max(fit, key=lambda point: (point.caught, -point.lost))
        raise ValueError(f"keep: expected {keep:g}, at most {1 - min(p.lost for p in curve):.4f} is possible")
    fit = [point for point in curve if point.caught >= (recall or 0.0)]
    if fit:
        return min(fit, key=lambda point: (point.lost, point.allowed))
    raise ValueError(f"recall: expected {recall:g}, at most {max(p.caught for p in curve):.4f} is possible")


def _beyond(score: Score, values: Float[np.ndarray, " head"], limit: float) -> Bool[np.ndarray, " head"]:
    """Which values fail the limit; missing ones do not."""
    known = np.where(np.isnan(values), limit, values)
    return known > limit if score.bad == "above" else known < limit


def _ranks(
    good: Float[np.ndarray, "g score"], bad: Float[np.ndarray, "b score"], tail: float, allowed: int
) -> list[int]:
    """For each score, the number of clean heads, worst first, that its limit drops."""
    worst_first = np.argsort(-good, axis=0, kind="stable")
    values = np.take_along_axis(good, worst_first, axis=0)
    ranks = [0] * good.shape[1]
    while _lost(worst_first, [rank + 1 for rank in ranks]).sum() <= allowed // 2:
        ranks = [rank + 1 for rank in ranks]
    while True:
        lost = _lost(worst_first, ranks)
        limits = [_limit_over(values[rank:, column], tail) for column, rank in enumerate(ranks)]
        missed = bad[(bad <= limits).all(axis=1)]
        best: tuple[float, int, int] | None = None
        for column, rank in enumerate(ranks):
            for step in range(1, min(LOOK_AHEAD + 1, len(good) - rank)):
                more = int((~lost[worst_first[rank : rank + step, column]]).sum())
                if lost.sum() + more > allowed:
                    break
                gain = int((missed[:, column] > _limit_over(values[rank + step :, column], tail)).sum())
                rate = gain / (more + 0.1)
                if gain and (best is None or rate > best[0]):
                    best = (rate, column, step)
        if best is None:
            return ranks
        ranks[best[1]] += best[2]


def _lost(worst_first: Int[np.ndarray, "g score"], ranks: Sequence[int]) -> Bool[np.ndarray, " g"]:
    """The clean heads that limits at these ranks drop."""
    lost = np.zeros(len(worst_first), bool)
    for column, rank in enumerate(ranks):
        lost[worst_first[:rank, column]] = True
    return lost


def _limit_over(kept: Float[np.ndarray, " k"], tail: float) -> float:
    """A limit above all kept values, which are sorted, worst first.

    It is where an exponential tail through their median, which half of them exceed, and the worst of them falls to
    exp(-`tail`) of that half.
    """
    worst, median = float(kept[0]), max(float(kept[len(kept) // 2]), -1e300)
    if not np.isfinite(worst):
        return np.inf
    reached = float(np.log(0.5 * max(len(kept), 3)))
    return worst + max(MARGIN, tail / reached - 1.0) * (worst - median)
