"""A learned verdict: the log-odds that a head is defective, as a sum of one curve per score.

    log-odds = intercept + sum of curve_s(score_s),    probability = 1 / (1 + exp(-log-odds))

Each curve is 0 at the median of the clean heads, so it is the weight of this score's evidence, and the sum explains
the verdict completely. Curves are piecewise linear and constant outside their knots; scores that are missing add the
curve's `missing`. `models.screening.fit` fits the curves. A verdict is plain numbers, so reading one runs no code.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from spinmeround.storage.records import FrozenModel

SCHEMA_VERSION = 1
"""Newest version of the files that this software reads."""

MOST_REASONS = 3
"""Largest number of reasons of a drop."""

EXPLAINED = 0.8
"""Share of the evidence against a head that its reasons cover, unless there are `MOST_REASONS`."""


class ScoreCurve(FrozenModel):
    """Log-odds as a function of one score; `knots` increase strictly."""

    score: str = Field(min_length=1)
    knots: tuple[float, ...] = Field(min_length=1)
    log_odds: tuple[float, ...] = Field(min_length=1)
    missing: float = 0.0

    @model_validator(mode="after")
    def _valid(self) -> "ScoreCurve":
        if len(self.knots) != len(self.log_odds):
            raise ValueError(
                f"{self.score}: expected as many log_odds as knots, got {len(self.log_odds)} and {len(self.knots)}"
            )
        if not (np.diff(self.knots) > 0).all():
            raise ValueError(f"{self.score}: expected knots that increase")
        return self

    def at(self, values: Float[np.ndarray, " head"]) -> Float[np.ndarray, " head"]:
        """The log-odds of these values; NaN is a missing value."""
        known = np.interp(values, self.knots, self.log_odds)
        return np.where(np.isnan(values), self.missing, known)


class LearnedVerdict(FrozenModel):
    """The content of a verdict file: curves, the threshold of a drop, and the heads that they were fitted to."""

    schema_version: Literal[1] = 1
    generator: str = Field("", description="Name of the generator of the heads")
    generator_fingerprint: str = Field("", description="Fingerprint of that generator")
    origin: str = Field("", description="Heads, labels and results of the fit")
    intercept: float
    threshold: float = Field(gt=0.0, lt=1.0, description="Probability of a defect above which a head is dropped")
    curves: tuple[ScoreCurve, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_curve_each(self) -> "LearnedVerdict":
        names = [curve.score for curve in self.curves]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"curves: expected one curve per score, got several of {', '.join(repeated)}")
        return self

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores that the verdict reads."""
        return tuple(curve.score for curve in self.curves)

    def evidence(self, scores: Mapping[str, float | None]) -> dict[str, float]:
        """Log-odds that each score of a head adds to those of a typical clean head, by name."""
        values = self._matrix([scores])
        return {curve.score: float(curve.at(values[:, at])[0]) for at, curve in enumerate(self.curves)}

    def probability(self, scores: Mapping[str, float | None]) -> float:
        """Probability that a head with these scores is defective."""
        return float(self.probabilities([scores])[0])

    def probabilities(self, heads: Sequence[Mapping[str, float | None]]) -> Float[np.ndarray, " head"]:
        """Probability of each head that it is defective."""
        return sigmoid(self.log_odds(heads))

    def log_odds(self, heads: Sequence[Mapping[str, float | None]]) -> Float[np.ndarray, " head"]:
        """Log-odds of each head that it is defective."""
        values = self._matrix(heads)
        log_odds = np.full(len(heads), self.intercept)
        for at, curve in enumerate(self.curves):
            log_odds += curve.at(values[:, at])
        return log_odds

    def reasons(self, scores: Mapping[str, float | None]) -> tuple[str, ...]:
        """The scores whose evidence against a head weighs most, heaviest first.

        At most `MOST_REASONS`, and no more than cover a share `EXPLAINED` of all evidence against the head. Empty if
        no score speaks against it.
        """
        against = sorted(
            ((weight, name) for name, weight in self.evidence(scores).items() if weight > 0), key=lambda each: -each[0]
        )
        total, covered, names = math.fsum(weight for weight, _ in against), 0.0, []
        for weight, name in against[:MOST_REASONS]:
            if covered >= EXPLAINED * total:
                break
            names.append(name)
            covered += weight
        return tuple(names)

    def _matrix(self, heads: Sequence[Mapping[str, float | None]]) -> Float[np.ndarray, "head score"]:
        rows = [[head.get(name) for name in self.scores] for head in heads]
        return np.array(rows, np.float64).reshape(len(heads), len(self.scores))


def sigmoid(log_odds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Probabilities of log-odds."""
    bounded = np.clip(log_odds, -500.0, 500.0)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)))


def logit(probability: float) -> float:
    """Log-odds of a probability between 0 and 1."""
    return math.log(probability / (1.0 - probability))
