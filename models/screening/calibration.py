"""Limits of scores from labelled heads: how much of the sound heads may be lost is the one thing to choose.

`choose_limits` first spends half of the loss on all scores alike, so that a fault of a kind that no label shows
is caught too when a score stands out; the other half goes, step by step, where it drops the most labelled heads
for each sound one lost. Nothing is fitted but the limits themselves. `cross_validated` tells what to expect of
heads that the choice has not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from spinmeround.models.screening.scores import SCORES, Score

LOSSES = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.07, 0.1)
"""Shares of the sound heads that a choice may lose, from which the curve is made."""

LOOK_AHEAD = 6
"""How many sound heads one step of the choice may lose at once."""


@dataclass(frozen=True, kw_only=True)
class LabelledScores:
    """Scores of some heads and whether each is spoilt; NaN where a score could not be had."""

    values: Float[np.ndarray, "head score"]
    spoilt: Bool[np.ndarray, " head"]

    @staticmethod
    def of(scores: Sequence[Mapping[str, float | None]], spoilt: Sequence[bool]) -> "LabelledScores":
        rows = [[row.get(score.name) for score in SCORES] for row in scores]
        return LabelledScores(
            values=np.array(rows, np.float64).reshape(len(rows), len(SCORES)), spoilt=np.array(spoilt, bool)
        )

    def __getitem__(self, heads: Bool[np.ndarray, " head"] | Int[np.ndarray, " chosen"]) -> "LabelledScores":
        return LabelledScores(values=self.values[heads], spoilt=self.spoilt[heads])

    def badness(self) -> Float[np.ndarray, "head score"]:
        """The values with the sign that makes larger worse; -inf where a score could not be had."""
        signed = self.values * np.array([1.0 if score.bad == "above" else -1.0 for score in SCORES])
        return np.where(np.isnan(signed), -np.inf, signed)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What limits chosen for a loss do: shares of the sound and of the spoilt heads that they drop."""

    allowed: float
    lost: float
    caught: float


def choose_limits(heads: LabelledScores, loss: float) -> dict[str, float]:
    """Limit of each score, such that at most `loss` of the sound heads are dropped; none for a score never had.

    Raises:
        ValueError: if there is no sound head.
    """
    badness = heads.badness()
    good, bad = badness[~heads.spoilt], badness[heads.spoilt]
    if not len(good):
        raise ValueError("labels: expected some sound heads to choose limits by, found none")
    ranks = _ranks(good, bad, allowed=int(loss * len(good)))
    limits = [_limit(good[:, column], bad[:, column], rank) for column, rank in enumerate(ranks)]
    return {
        score.name: limit if score.bad == "above" else -limit
        for score, limit in zip(SCORES, limits, strict=True)
        if np.isfinite(limit)
    }


def dropped(heads: LabelledScores, limits: Mapping[str, float]) -> Bool[np.ndarray, " head"]:
    """Which heads these limits drop."""
    verdicts = np.zeros(len(heads.values), bool)
    for score, column in zip(SCORES, heads.values.T, strict=True):
        if score.name in limits:
            verdicts |= _beyond(score, column, limits[score.name])
    return verdicts


def shares(heads: LabelledScores, limits: Mapping[str, float]) -> tuple[float, float]:
    """Shares of the sound and of the spoilt heads that these limits drop; NaN where there are none."""
    gone = dropped(heads, limits)
    sound, spoilt = gone[~heads.spoilt], gone[heads.spoilt]
    return (
        float(sound.mean()) if len(sound) else float("nan"),
        float(spoilt.mean()) if len(spoilt) else float("nan"),
    )


def cross_validated(heads: LabelledScores, folds: int = 5, seed: int = 0) -> list[CurvePoint]:
    """The curve of LOSSES, each head judged by limits that were chosen without its fold."""
    order = np.random.default_rng(seed).permutation(len(heads.values))
    fold = np.empty(len(order), int)
    fold[order] = np.arange(len(order)) % folds
    curve = []
    for loss in LOSSES:
        gone = np.zeros(len(order), bool)
        for each in range(folds):
            gone[fold == each] = dropped(heads[fold == each], choose_limits(heads[fold != each], loss))
        curve.append(
            CurvePoint(allowed=loss, lost=float(gone[~heads.spoilt].mean()), caught=float(gone[heads.spoilt].mean()))
        )
    return curve


def pick(curve: Sequence[CurvePoint], *, keep: float | None = None, catch: float | None = None) -> CurvePoint:
    """The point that keeps at least `keep` of the sound heads and catches most, or catches `catch` and keeps most.

    Raises:
        ValueError: if no point does, with the best that there is; or if not one of the two is given.
    """
    if (keep is None) == (catch is None):
        raise ValueError("expected one of keep and catch")
    if keep is not None:
        fit = [point for point in curve if 1.0 - point.lost >= keep]
        if fit:
            return max(fit, key=lambda point: (point.caught, -point.lost))
        raise ValueError(f"keep {keep:g}: the most that can be kept is {1 - min(p.lost for p in curve):.4f}")
    fit = [point for point in curve if point.caught >= (catch or 0.0)]
    if fit:
        return min(fit, key=lambda point: (point.lost, point.allowed))
    raise ValueError(f"recall {catch:g}: the most that can be caught is {max(p.caught for p in curve):.4f}")


def _beyond(score: Score, values: Float[np.ndarray, " head"], limit: float) -> Bool[np.ndarray, " head"]:
    known = np.where(np.isnan(values), limit, values)
    return known > limit if score.bad == "above" else known < limit


def _ranks(good: Float[np.ndarray, "g score"], bad: Float[np.ndarray, "b score"], allowed: int) -> list[int]:
    """For each score, how many of the sound heads with the worst values are beyond its limit."""
    worst_first = np.argsort(-good, axis=0, kind="stable")
    ranks = [0] * good.shape[1]
    while len(_lost(worst_first, [rank + 1 for rank in ranks])) <= allowed // 2:
        ranks = [rank + 1 for rank in ranks]
    while True:
        lost, caught = _lost(worst_first, ranks), _caught(good, bad, worst_first, ranks)
        best: tuple[float, int, int] | None = None
        for column in range(good.shape[1]):
            for step in range(1, LOOK_AHEAD + 1):
                trial = [*ranks[:column], ranks[column] + step, *ranks[column + 1 :]]
                if trial[column] >= len(good) or len(_lost(worst_first, trial)) > allowed:
                    break
                gain = int((_caught(good, bad, worst_first, trial, column) & ~caught).sum())
                rate = gain / (len(_lost(worst_first, trial)) - len(lost) + 0.1)
                if gain and (best is None or rate > best[0]):
                    best = (rate, column, step)
        if best is None:
            return ranks
        ranks[best[1]] += best[2]


def _lost(worst_first: Int[np.ndarray, "g score"], ranks: Sequence[int]) -> set[int]:
    return {int(head) for column, rank in enumerate(ranks) for head in worst_first[:rank, column]}


def _caught(
    good: Float[np.ndarray, "g score"],
    bad: Float[np.ndarray, "b score"],
    worst_first: Int[np.ndarray, "g score"],
    ranks: Sequence[int],
    only: int | None = None,
) -> Bool[np.ndarray, " b"]:
    columns = range(good.shape[1]) if only is None else [only]
    caught = np.zeros(len(bad), bool)
    for column in columns:
        kept = good[worst_first[ranks[column] :, column], column]
        if len(kept):
            caught |= bad[:, column] > _limit_over(kept, bad[:, column])
    return caught


def _limit(good: Float[np.ndarray, " g"], bad: Float[np.ndarray, " b"], rank: int) -> float:
    return _limit_over(np.sort(good)[::-1][rank:], bad)


def _limit_over(kept: Float[np.ndarray, " k"], bad: Float[np.ndarray, " b"]) -> float:
    """A limit above all kept values (sorted, worst first), with a margin of a quarter of their upper half.

    Where the next spoilt head is nearer than that, half way to it.
    """
    worst = float(kept[0])
    if not np.isfinite(worst):
        return np.inf
    margin = 0.25 * (worst - max(float(kept[len(kept) // 2]), -1e300))
    above = bad[bad > worst]
    if len(above):
        margin = min(margin, 0.5 * (float(above.min()) - worst))
    return worst + margin
