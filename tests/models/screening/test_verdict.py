"""A learned verdict is the sum of its curves, and its reasons are its heaviest evidence."""

import numpy as np
import pytest
from pydantic import ValidationError

from spinmeround.models.screening.verdict import LearnedVerdict, ScoreCurve, logit

pytestmark = pytest.mark.fast


def verdict(*curves: tuple[str, tuple[float, ...], tuple[float, ...]], intercept: float = -2.0) -> LearnedVerdict:
    made = tuple(ScoreCurve(score=name, knots=knots, log_odds=log_odds) for name, knots, log_odds in curves)
    return LearnedVerdict(intercept=intercept, threshold=0.5, curves=made)


TWO = verdict(("holes", (0.0, 0.1, 0.2), (0.0, 1.0, 5.0)), ("crown", (0.1, 0.3), (4.0, -0.5)))


@pytest.mark.parametrize(
    ("scores", "log_odds"),
    [
        ({"holes": 0.05, "crown": 0.2}, -2.0 + 0.5 + 1.75),
        ({"holes": 9.0, "crown": -9.0}, -2.0 + 5.0 + 4.0),
        ({"holes": None}, -2.0),
        ({"holes": 0.15, "other": 1e9}, -2.0 + 3.0),
    ],
    ids=["between knots", "beyond the knots", "missing", "a score without a curve"],
)
def test_log_odds_are_the_intercept_and_the_evidence_of_each_score(scores, log_odds):
    """Known values; the evidence explains the probability completely."""
    assert logit(TWO.probability(scores)) == pytest.approx(log_odds)
    assert TWO.intercept + sum(TWO.evidence(scores).values()) == pytest.approx(log_odds)


def test_many_heads_have_the_probabilities_of_each():
    heads = [{"holes": value, "crown": None} for value in np.linspace(0, 1, 5)]
    assert list(TWO.probabilities(heads)) == pytest.approx([TWO.probability(head) for head in heads])


def test_reasons_are_the_heaviest_evidence_against_the_head():
    """Heaviest first, at most three, none that speaks for the head, and no more than explain it."""
    names = "abcdef"
    curves = [(name, (0.0, 1.0), (0.0, weight)) for name, weight in zip(names, (1, 5, 2, 4, 3, -9), strict=True)]
    found = verdict(*curves)
    assert found.reasons(dict.fromkeys(names, 1.0)) == ("b", "d", "e")
    assert found.reasons({"b": 1.0, "a": 0.1}) == ("b",)
    assert found.reasons({"f": 1.0}) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"knots": (0.0,)}, "holes: expected as many log_odds as knots, got 2 and 1"),
        ({"knots": (1.0, 1.0)}, "holes: expected knots that increase"),
        ({"log_odds": (0.0, float("nan"))}, "Input should be a finite number"),
    ],
)
def test_an_invalid_curve_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ScoreCurve(**{"score": "holes", "knots": (0.0, 1.0), "log_odds": (0.0, 1.0), **changes})


def test_two_curves_of_one_score_are_refused():
    with pytest.raises(ValidationError, match="expected one curve per score, got several of holes"):
        verdict(("holes", (0.0,), (0.0,)), ("holes", (0.0,), (1.0,)))


def test_a_verdict_survives_json_exactly():
    """The file holds every number with all its digits, so a verdict does not change when it is written and read."""
    rng = np.random.default_rng(0)
    made = verdict(("holes", tuple(np.sort(rng.random(9))), tuple(rng.random(9))), intercept=float(rng.random()))
    assert LearnedVerdict.model_validate_json(made.model_dump_json()) == made
