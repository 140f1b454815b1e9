"""Statistics over heads: means with 95% bootstrap intervals, and paired tests between two predictions.

Heads are the unit of resampling, since the views of a head are not independent. All random numbers come from fixed
seeds, so that equal values give equal statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import bootstrap, permutation_test

CONFIDENCE = 0.95
_RESAMPLES = 9999


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """A mean over heads and its 95% interval; `low` and `high` are None for a single head."""

    mean: float
    low: float | None
    high: float | None
    heads: int


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """First minus second over the heads that both have a value of.

    `difference` is the mean with its 95% interval. `p_value` is two-sided, of the sign-flip permutation test of the
    mean (exact up to 13 heads); None for a single head.
    """

    difference: MeanInterval
    p_value: float | None


def mean_interval(values: Sequence[float] | Float64[np.ndarray, " head"]) -> MeanInterval:
    """The mean with its 95% BCa bootstrap interval (Efron 1987).

    Raises:
        ValueError: for no values.
    """
    found = np.asarray(values, np.float64)
    if not len(found):
        raise ValueError("mean_interval: expected one or more values, got none")
    mean, heads = float(found.mean()), len(found)
    if heads == 1:
        return MeanInterval(mean=mean, low=None, high=None, heads=1)
    if np.ptp(found) == 0:  # BCa divides by the spread
        return MeanInterval(mean=mean, low=mean, high=mean, heads=heads)
    interval = bootstrap(
        (found,), np.mean, n_resamples=_RESAMPLES, confidence_level=CONFIDENCE, rng=0, batch=1000
    ).confidence_interval
    return MeanInterval(mean=mean, low=float(interval.low), high=float(interval.high), heads=heads)


def paired_test(first: Sequence[float | None], second: Sequence[float | None]) -> PairedTest | None:
    """Compare values of the same heads, in the same order; None if no head has both.

    Raises:
        ValueError: for sequences of different lengths.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    differences = np.array([a - b for a, b in pairs])
    return PairedTest(difference=mean_interval(differences), p_value=_p_value(differences))


def _p_value(differences: Float64[np.ndarray, " head"]) -> float | None:
    if len(differences) == 1:
        return None
    if not differences.any():
        return 1.0
    test = permutation_test(
        (differences,), _mean, permutation_type="samples", n_resamples=_RESAMPLES, vectorized=True, rng=0, batch=1000
    )
    return float(test.pvalue)


def _mean(values: Float64[np.ndarray, "*batch head"], axis: int) -> Float64[np.ndarray, "*batch"]:
    return np.asarray(np.mean(values, axis=axis))
