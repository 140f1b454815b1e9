"""Fit of a learned verdict (`models.screening.verdict`) to the scores of labelled heads.

1. *Surprise.* A score is replaced by -log10 of the share of clean heads that are at least as bad, and continues beyond
   the worst clean head on a logarithmic scale. All scores then have one unit, and outliers have bounded weight.
2. *Invented defects.* Labels know only the kinds of defects that somebody has seen. Clean heads in which one score is
   moved beyond the range of clean heads join the training set as defective ones, so every score keeps some weight.
3. *Weights.* A logistic regression with an L2 penalty weighs the surprise of each score, its part above `RARE`, and
   its part `FAR` beyond the worst clean head; the last counts for every score, the others for the scores that separate
   the labelled heads best. Each weight is one that all scores share plus one of its own, so few labels settle how much
   any evidence weighs, and more labels which. A score never speaks for a head the worse it is: negative weights are
   removed and the rest is fitted again.
4. *Probabilities.* Platt's scaling of out-of-fold log-odds, on the labelled heads that were drawn at random.

`choose` compares a few strengths of 2 and 3 out of fold. Where the kinds of defects are known, it compares the recall
of kinds that the fit has not seen as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold

from spinmeround.models.screening.calibration import LabelledScores
from spinmeround.models.screening.scores import SCORES, Score
from spinmeround.models.screening.verdict import ScoreCurve

RARE = 1.5
"""Surprise above which a score's evidence has a second weight: about one clean head in 30 is beyond."""

FAR = 1.2
"""Surprise beyond the worst clean head's, above which a score's evidence has a third weight."""

PARTS = 3

BEYOND = ((0.25, 0.6), (0.5, 1.2), (1.0, 2.0), (2.0, 3.2), (4.0, 4.4))
"""Surprise added beyond the worst clean head, by the excess in distances of that head from the median."""

LARGEST_LOSS = 0.1
"""Loss up to which `choose` compares recall."""

SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Strength of the penalty (smaller is stronger), invented defects per labelled one, number of scores that count."""

    inverse_penalty: float
    invented: float
    scores: int = len(SCORES)


CANDIDATES = tuple(
    FitSettings(inverse_penalty=inverse_penalty, invented=invented, scores=scores)
    for scores in (6, 12, len(SCORES))
    for invented in (2.0, 8.0)
    for inverse_penalty in (0.3, 3.0)
)
"""The settings that `choose` compares, the simplest first."""


@dataclass(frozen=True, kw_only=True)
class Additive:
    """Log-odds as an intercept and a curve per score, before scaling."""

    intercept: float
    curves: tuple[ScoreCurve, ...]

    def log_odds(self, values: Float[np.ndarray, "head score"]) -> Float[np.ndarray, " head"]:
        """Log-odds of heads whose scores are in the order of SCORES."""
        columns = {score.name: at for at, score in enumerate(SCORES)}
        found = np.full(len(values), self.intercept)
        for curve in self.curves:
            found += curve.at(values[:, columns[curve.score]])
        return found

    def scaled(self, slope: float, offset: float) -> "Additive":
        """With log-odds `slope * log_odds + offset`."""
        curves = tuple(
            curve.model_copy(update={"log_odds": tuple(slope * value for value in curve.log_odds)})
            for curve in self.curves
        )
        return Additive(intercept=slope * self.intercept + offset, curves=curves)


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """Surprise as a piecewise linear function of one score's badness (larger is worse), and where it is far."""

    knots: Float[np.ndarray, " knot"]
    surprise: Float[np.ndarray, " knot"]
    median: float
    far: float

    def parts(self, surprise: Float[np.ndarray, "..."]) -> Float[np.ndarray, "part ..."]:
        """The surprise, its part above RARE, and its part that is far."""
        return np.stack([surprise, np.maximum(surprise - RARE, 0.0), np.maximum(surprise - self.far, 0.0)])

    def __call__(self, badness: Float[np.ndarray, " head"]) -> Float[np.ndarray, " head"]:
        """Surprise of these values; a missing one is as surprising as the median."""
        return np.asarray(np.interp(np.where(np.isnan(badness), self.median, badness), self.knots, self.surprise))


def surprise_of(clean: Float[np.ndarray, " head"]) -> Surprise | None:
    """The surprise function of a score from its badness in clean heads; None if fewer than three have it."""
    found = np.sort(clean[~np.isnan(clean)])
    if len(found) < 3:
        return None
    ranks = np.unique(np.geomspace(1, len(found), 14).astype(int))  # heads from the worst: 1 is the worst
    knots = np.unique(found[len(found) - ranks])
    shares = (len(found) - np.searchsorted(found, knots, side="left")) / (len(found) + 1)
    median, worst = float(np.median(found)), float(found[-1])
    spread = max(worst - median, SMALLEST_SPREAD)
    rarest = float(np.log10(len(found) + 1))
    return Surprise(
        knots=np.concatenate([knots, [worst + spread * excess for excess, _ in BEYOND]]),
        surprise=np.concatenate([-np.log10(shares), [rarest + more for _, more in BEYOND]]),
        median=median,
        far=rarest + FAR,
    )


def fit_curves(heads: LabelledScores, settings: FitSettings, seed: int = 0) -> Additive:
    """Fit the curves of all scores that at least three clean heads have.

    Raises:
        ValueError: if there are fewer than three clean heads or no defective one.
    """
    if (~heads.defective).sum() < 3 or not heads.defective.any():
        raise ValueError(
            f"labels: expected at least 3 clean heads and a defective one, found {(~heads.defective).sum()} and "
            f"{heads.defective.sum()}"
        )
    badness = oriented(heads.values)
    functions = [surprise_of(column) for column in badness[~heads.defective].T]
    invented = _invented(badness[~heads.defective], round(settings.invented * max(heads.defective.sum(), 10)), seed)
    features = _features(functions, np.concatenate([badness, invented]))
    labels = np.concatenate([heads.defective, np.ones(len(invented), bool)])
    usable = _most_telling(features[: len(badness)], heads.defective, functions, settings.scores)
    intercept, weights = _weights(features, labels, usable, settings.inverse_penalty)
    curves = [
        _curve(score, function, weights[at :: len(SCORES)])
        for at, (score, function) in enumerate(zip(SCORES, functions, strict=True))
        if function is not None
    ]
    at_median = sum(shift for _, shift in curves)
    return Additive(intercept=intercept + at_median, curves=tuple(curve for curve, _ in curves))


def oriented(values: Float[np.ndarray, "head score"]) -> Float[np.ndarray, "head score"]:
    """Scores with signs such that larger is worse; NaN stays."""
    signs = np.array([1.0 if score.bad == "above" else -1.0 for score in SCORES])
    return np.asarray(values * signs)


def out_of_fold(
    heads: LabelledScores, fold: Int[np.ndarray, " head"], settings: FitSettings
) -> Float[np.ndarray, " head"]:
    """Log-odds of each head, from a fit without its fold."""
    found = np.empty(len(heads.values))
    for each in np.unique(fold):
        found[fold == each] = fit_curves(heads[fold != each], settings).log_odds(heads.values[fold == each])
    return found


def random_folds(heads: LabelledScores, folds: int, seed: int = 0) -> Int[np.ndarray, " head"]:
    """The fold of each head; each fold has its share of the defective heads."""
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return _folds(splitter.split(heads.values, heads.defective), len(heads.values))


def kind_folds(heads: LabelledScores, kinds: Sequence[str], folds: int, seed: int = 0) -> Int[np.ndarray, " head"]:
    """The fold of each head; all defective heads of a kind are in one fold, clean heads in any."""
    rng = np.random.default_rng(seed)
    folds = min(folds, len({kind for kind, bad in zip(kinds, heads.defective, strict=True) if bad}))
    fold = rng.permutation(len(kinds)) % folds
    bad = np.flatnonzero(heads.defective)
    groups = np.array(kinds)[bad]
    fold[bad] = _folds(GroupKFold(folds, shuffle=True, random_state=seed).split(bad, groups=groups), len(bad))
    return fold


def choose(heads: LabelledScores, kinds: Sequence[str], folds: int) -> FitSettings:
    """The candidate with the largest area under recall up to LARGEST_LOSS, out of fold; of equals the simplest."""
    splits = [random_folds(heads, folds)]
    if len({kind for kind in kinds if kind}) > 1:
        splits.append(kind_folds(heads, kinds, folds))

    def area(settings: FitSettings) -> float:
        found = [out_of_fold(heads, fold, settings) for fold in splits]
        return float(np.mean([roc_auc_score(heads.defective, each, max_fpr=LARGEST_LOSS) for each in found]))

    return max(CANDIDATES, key=area)


def platt(log_odds: Float[np.ndarray, " head"], defective: Bool[np.ndarray, " head"]) -> tuple[float, float]:
    """Slope and offset that turn log-odds of held-out heads into calibrated ones.

    Raises:
        ValueError: if the log-odds do not increase with the share of defective heads.
    """
    model = LogisticRegression(C=1e3, max_iter=1000).fit(log_odds[:, None], defective)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        raise ValueError("labels: expected scores that tell defective from clean heads, found none that do")
    return slope, offset


def _folds(split: Iterable[tuple[np.ndarray, np.ndarray]], heads: int) -> Int[np.ndarray, " head"]:
    fold = np.empty(heads, int)
    for number, (_, held_out) in enumerate(split):
        fold[held_out] = number
    return fold


def _features(
    functions: Sequence[Surprise | None], badness: Float[np.ndarray, "head score"]
) -> Float[np.ndarray, "head feature"]:
    """The parts of the surprises: the first of each score, then the second, then the third; 0 without a function."""
    columns = [
        np.zeros((PARTS, len(badness))) if function is None else function.parts(function(column))
        for function, column in zip(functions, badness.T, strict=True)
    ]
    return np.concatenate(np.stack(columns, axis=-1), axis=1)


def _invented(clean: Float[np.ndarray, "head score"], count: int, seed: int) -> Float[np.ndarray, "count score"]:
    """Clean heads with one score among the worst percent of the clean heads, or, for three of four, beyond it."""
    rng = np.random.default_rng([seed, 1])
    made = clean[rng.integers(len(clean), size=count)].copy()
    for row, column in enumerate(rng.integers(clean.shape[1], size=count)):
        known = clean[~np.isnan(clean[:, column]), column]
        if len(known) < 3:
            continue
        worst = known.max()
        excess = max(worst - np.median(known), SMALLEST_SPREAD) * rng.exponential(0.7)
        rare = np.quantile(known, 1.0 - 0.01 * rng.random())
        made[row, column] = worst + excess if rng.random() < 0.75 else rare
    return made


def _most_telling(
    features: Float[np.ndarray, "head feature"],
    defective: Bool[np.ndarray, " head"],
    functions: Sequence[Surprise | None],
    count: int,
) -> Bool[np.ndarray, " feature"]:
    """Features of the `count` scores that separate the labelled heads best, and what is far of every score."""
    found = np.array([function is not None for function in functions])
    chosen = found.copy()
    if count < chosen.sum():
        areas = [roc_auc_score(defective, features[:, at]) if chosen[at] else 0.0 for at in range(len(functions))]
        chosen[np.argsort(areas)[::-1][count:]] = False
    return np.concatenate([chosen, chosen, found])


def _weights(
    features: Float[np.ndarray, "head feature"],
    labels: Bool[np.ndarray, " head"],
    usable: Bool[np.ndarray, " feature"],
    inverse_penalty: float,
) -> tuple[float, Float[np.ndarray, " feature"]]:
    """Intercept and weights of a logistic regression whose shared and own weights are not negative."""
    sharing = np.repeat(np.eye(PARTS), len(usable) // PARTS, axis=1) * usable
    both = np.concatenate([features, features @ sharing.T], axis=1)
    weights, used = np.zeros(both.shape[1]), np.concatenate([usable, [True] * PARTS])
    while used.any():
        model = LogisticRegression(C=inverse_penalty, solver="newton-cholesky")
        model.fit(both[:, used], labels)
        found = model.coef_[0]
        if (found >= 0).all():
            weights[used] = found
            return float(model.intercept_[0]), weights[:-PARTS] + weights[-PARTS:] @ sharing
        used[np.flatnonzero(used)[found < 0]] = False
    share = float(labels.mean())
    return float(np.log(share / (1.0 - share))), np.zeros(len(usable))


def _curve(score: Score, function: Surprise, weights: Float[np.ndarray, " part"]) -> tuple[ScoreCurve, float]:
    """The curve of a score, 0 at the median of the clean heads, and what it was there before."""
    crossings = np.interp([RARE, function.far], function.surprise, function.knots)
    knots = np.unique([*function.knots, function.median, *crossings])
    log_odds = weights @ function.parts(np.interp(knots, function.knots, function.surprise))
    at_median = float(np.interp(function.median, knots, log_odds))
    if score.bad == "below":
        knots, log_odds = -knots[::-1], log_odds[::-1]
    curve = ScoreCurve(
        score=score.name, knots=tuple(map(float, knots)), log_odds=tuple(map(float, log_odds - at_median))
    )
    return curve, at_median
