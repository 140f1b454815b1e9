"""A learned verdict from labelled heads: settings, curves, probabilities and threshold, with its expected errors.

All labels train. Probabilities, threshold and error rates come from the heads that were drawn at random, because heads
that were chosen for their scores say nothing about shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from spinmeround.models.screening.calibration import LOSSES, CurvePoint, LabelledScores
from spinmeround.models.screening.fit import (
    Additive,
    FitSettings,
    choose,
    fit_curves,
    kind_folds,
    out_of_fold,
    platt,
    random_folds,
)
from spinmeround.models.screening.threshold import Errors, Target, held_out_drops
from spinmeround.models.screening.verdict import sigmoid

SURE = 30.0
"""Largest log-odds of a threshold: beyond, a probability is no longer distinct from 1."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Calibrated curves and the threshold as a probability.

    `dropped` says which of the labelled heads a verdict drops that was fitted without them. `curve` is recall against
    loss of such verdicts, `unseen` the same for kinds of defects that none of the fitted heads has.
    """

    additive: Additive
    threshold: float
    settings: FitSettings
    dropped: Bool[np.ndarray, " head"]
    curve: tuple[CurvePoint, ...]
    unseen: tuple[CurvePoint, ...]


def learn(
    heads: LabelledScores,
    *,
    kinds: Sequence[str],
    at_random: Bool[np.ndarray, " head"],
    target: Target,
    folds: int = 5,
) -> Learned:
    """Learn a verdict; `kinds` are the kinds of the defects, empty where unknown.

    Raises:
        ValueError: if the heads that were drawn at random are all clean or all defective, if any kind of head has
            fewer than `folds`, or if no score tells them apart.
    """
    settings = choose(heads, kinds, folds)
    fold = random_folds(heads, folds)
    held_out = out_of_fold(heads, fold, settings)
    slope, offset = platt(held_out[at_random], heads.defective[at_random])
    calibrated = slope * held_out + offset
    target = _reached(calibrated, heads.defective, fold, at_random, target)
    threshold = target.threshold(calibrated[at_random], heads.defective[at_random])
    return Learned(
        additive=fit_curves(heads, settings).scaled(slope, offset),
        threshold=float(sigmoid(np.array(np.clip(threshold, -SURE, SURE)))),
        settings=settings,
        dropped=_drops(calibrated, heads.defective, fold, at_random, target),
        curve=_curve(calibrated, heads.defective, fold, at_random),
        unseen=_unseen(heads, kinds, settings, folds),
    )


def _reached(
    log_odds: Float[np.ndarray, " head"],
    defective: Bool[np.ndarray, " head"],
    fold: Int[np.ndarray, " head"],
    at_random: Bool[np.ndarray, " head"],
    target: Target,
) -> Target:
    """The target, or the nearest stricter one that keeps the stated share of the clean heads that it has not seen."""
    if target.keep is None:
        return target
    loss = 1.0 - target.keep
    for allowed in (loss, *sorted((each for each in LOSSES if each < loss), reverse=True)):
        dropped = _drops(log_odds, defective, fold, at_random, Target(keep=1.0 - allowed))
        if Errors.of(dropped[at_random], defective[at_random]).lost.share <= loss:
            return Target(keep=1.0 - allowed)
    return Target(keep=1.0)


def _unseen(heads: LabelledScores, kinds: Sequence[str], settings: FitSettings, folds: int) -> tuple[CurvePoint, ...]:
    if len({kind for kind in kinds if kind}) < 2:
        return ()
    fold = kind_folds(heads, kinds, folds)
    log_odds = out_of_fold(heads, fold, settings)
    return _curve(log_odds, heads.defective, fold, np.ones(len(fold), bool))


def _drops(
    log_odds: Float[np.ndarray, " head"],
    defective: Bool[np.ndarray, " head"],
    fold: Int[np.ndarray, " head"],
    at_random: Bool[np.ndarray, " head"],
    target: Target,
) -> Bool[np.ndarray, " head"]:
    """Drops by thresholds that are chosen on the random heads of the other folds."""
    dropped = log_odds > target.threshold(log_odds[at_random], defective[at_random])
    dropped[at_random] = held_out_drops(log_odds[at_random], defective[at_random], fold[at_random], target)
    return dropped


def _curve(
    log_odds: Float[np.ndarray, " head"],
    defective: Bool[np.ndarray, " head"],
    fold: Int[np.ndarray, " head"],
    at_random: Bool[np.ndarray, " head"],
) -> tuple[CurvePoint, ...]:
    points = []
    for loss in LOSSES:
        dropped = _drops(log_odds, defective, fold, at_random, Target(keep=1.0 - loss))
        errors = Errors.of(dropped[at_random], defective[at_random])
        points.append(CurvePoint(allowed=loss, lost=errors.lost.share, caught=errors.caught.share))
    return tuple(points)
