"""The threshold of a learned verdict from held-out log-odds of labelled heads, and the error rates that it has.

The rates come from thresholds that are chosen without the heads that they judge, so they are not flattered by the
choice.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from spinmeround.models.screening.rates import Rate

MARGIN = 0.25
"""Margin above the worst clean head if no head is above it, as a share of that head's distance from the median."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a threshold is chosen for: a share `keep` of the clean heads or a share `recall` of the defective ones."""

    keep: float | None = None
    recall: float | None = None

    def threshold(self, log_odds: Float[np.ndarray, " head"], defective: Bool[np.ndarray, " head"]) -> float:
        """The log-odds above which heads are dropped, half way between two heads.

        Raises:
            ValueError: without clean heads for `keep`, or without defective ones for `recall`.
        """
        if self.keep is not None:
            return threshold_for_loss(log_odds, defective, 1.0 - self.keep)
        caught = np.sort(log_odds[defective])[::-1]
        if not len(caught):
            raise ValueError("labels: expected at least one defective head, found none")
        last = caught[max(int(np.ceil((self.recall or 0.0) * len(caught))), 1) - 1]
        below = log_odds[log_odds < last]
        return float((last + below.max()) / 2 if len(below) else last - 1.0)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Clean heads lost and defective heads caught."""

    lost: Rate
    caught: Rate

    @staticmethod
    def of(dropped: Bool[np.ndarray, " head"], defective: Bool[np.ndarray, " head"]) -> "Errors":
        """The errors of these drops."""
        return Errors(
            lost=Rate(int(dropped[~defective].sum()), int((~defective).sum())),
            caught=Rate(int(dropped[defective].sum()), int(defective.sum())),
        )


def threshold_for_loss(
    log_odds: Float[np.ndarray, " head"], defective: Bool[np.ndarray, " head"], loss: float
) -> float:
    """The log-odds above which at most a share `loss` of the clean heads is.

    Raises:
        ValueError: without clean heads.
    """
    clean = np.sort(log_odds[~defective])[::-1]
    if not len(clean):
        raise ValueError("labels: expected at least one clean head, found none")
    first_kept = clean[min(int(loss * len(clean) + 1e-9), len(clean) - 1)]
    above = log_odds[log_odds > first_kept]
    margin = MARGIN * float(first_kept - np.median(clean)) or MARGIN
    return float((first_kept + above.min()) / 2 if len(above) else first_kept + margin)


def held_out_drops(
    log_odds: Float[np.ndarray, " head"],
    defective: Bool[np.ndarray, " head"],
    fold: Int[np.ndarray, " head"],
    target: Target,
) -> Bool[np.ndarray, " head"]:
    """Which heads are dropped by a threshold that is chosen without their fold."""
    dropped = np.zeros(len(log_odds), bool)
    for each in np.unique(fold):
        others, own = fold != each, fold == each
        dropped[own] = log_odds[own] > target.threshold(log_odds[others], defective[others])
    return dropped


def recall_at(
    log_odds: Float[np.ndarray, " head"], defective: Bool[np.ndarray, " head"], loss: float
) -> tuple[float, Bool[np.ndarray, " head"]]:
    """The threshold at this loss of the given heads, and which heads it drops."""
    threshold = threshold_for_loss(log_odds, defective, loss)
    return threshold, log_odds > threshold
