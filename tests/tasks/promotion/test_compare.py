"""Whether a new model is better than the promoted one, and why."""

import re
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from spinmeround.models.metrics.definitions import METRICS
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.params import EvaluationResult
from spinmeround.tasks.promotion.compare import compare
from spinmeround.tasks.promotion.params import MetricName, PromoteParams

pytestmark = pytest.mark.fast


def result(*values: float | None, metric: str = "psnr", **changes: Any) -> EvaluationResult:
    """An evaluation whose heads have these values of one metric."""
    known = [value for value in values if value is not None]
    heads = [
        {"id": f"head-{number}", "conditioning": [0], "targets": [1, 2], "scores": {"model": {metric: value}}}
        for number, value in enumerate(values)
    ]
    fields: dict[str, Any] = {
        "model": {metric: sum(known) / len(known) if known else None},
        "baselines": {},
        "methods": {},
        "intervals": {},
        "comparisons": {},
        "missing": {},
        "heads": heads,
    }
    return EvaluationResult(**{**fields, **changes})


@pytest.mark.parametrize(
    ("new", "before", "margin", "better", "reason"),
    [
        (20.5, 20.0, 0.0, True, "PSNR 20.50 dB, promoted model 20.00 dB: difference 0.50 dB"),
        (20.5, 20.0, 0.5, True, "the new model is better"),
        (20.5, 20.0, 0.51, False, r"expected at least 0.51 dB \(promote.margin\)"),
        (20.0, 20.0, 0.0, False, "difference 0.00 dB .* the new model is not better"),
        (19.5, 20.0, 0.0, False, "difference −0.50 dB .* the new model is not better"),
    ],
    ids=["better", "by the margin", "below the margin", "equal", "worse"],
)
def test_a_higher_psnr_is_better(new: float, before: float, margin: float, better: bool, reason: str) -> None:
    """The mean difference over six heads decides, and the margin is reached by itself."""
    shifted = [[value + head - 2.5 for head in range(6)] for value in (new, before)]
    found = compare(*(result(*values) for values in shifted), PromoteParams(margin=margin))
    assert (found.better, found.improvement) == (better, new - before)
    assert re.search(reason, found.reason)


def test_a_lower_error_is_better() -> None:
    """The sign of the improvement follows the metric."""
    params = PromoteParams(metric="normal_angular_error_deg", margin=2.0)
    errors = [result(*values, metric="normal_angular_error_deg") for values in ((8.0, 9.0), (10.0, 12.0))]
    assert (compare(*errors, params).better, compare(*errors, params).improvement) == (True, 2.5)
    assert (compare(*errors[::-1], params).better, compare(*errors[::-1], params).improvement) == (False, -2.5)


def test_heads_without_a_value_are_left_out() -> None:
    """Only heads that both models have a value of are compared, whatever the means of the others."""
    found = compare(result(20.0, 30.0, None), result(19.0, None, 40.0), PromoteParams())
    assert (found.better, found.improvement) == (True, 1.0)
    assert "1 head)" in found.reason
    none = compare(result(20.0, None), result(None, 19.0), PromoteParams())
    assert (none.better, none.reason) == (False, "no head has the PSNR of both models")


def test_the_paired_test_decides_if_the_profile_says_so() -> None:
    """A gain on each of six heads has p = 2 / 2^6; one on a single head has none and counts as unproven."""
    six = [result(*(value + head for head in range(6))) for value in (20.5, 20.0)]
    assert compare(*six, PromoteParams(largest_p_value=0.04)).better
    strict = compare(*six, PromoteParams(largest_p_value=0.03))
    assert (strict.better, "p = 0.031" in strict.reason) == (False, True)
    single = compare(result(21.0), result(20.0), PromoteParams(largest_p_value=0.5))
    assert (single.better, "promote.largest_p_value" in single.reason) == (False, True)


def test_metrics_of_sets_have_one_value() -> None:
    """FID is no mean over heads: the two values are compared."""
    heads = result(20.0, 21.0).heads
    new, before = (result(value, metric="fid", heads=heads) for value in (30.0, 31.5))
    assert compare(new, before, PromoteParams(metric="fid", margin=1.5)).better
    assert not compare(new, before, PromoteParams(metric="fid", margin=1.6)).better


def test_the_first_model_is_better_than_none() -> None:
    """Unless its metric is missing, for the reason that the evaluation states."""
    assert compare(result(3.0), None, PromoteParams()).better
    found = compare(result(None, missing={"psnr": "no target is visible"}), None, PromoteParams())
    assert (found.better, found.reason) == (False, "the new model has no PSNR: no target is visible")


def test_other_heads_are_not_compared() -> None:
    """Evaluations of other heads or views, and one without the metric, are errors that name what to do."""
    with pytest.raises(ConfigError, match=r"promote: expected .* the same heads, found head-1 with others"):
        compare(result(20.0, 21.0), result(20.0), PromoteParams())
    with pytest.raises(ConfigError, match=r"promote\.metric: .* found no PSNR of the promoted one"):
        compare(result(20.0), result(None), PromoteParams())


def test_every_metric_can_decide() -> None:
    """The profile knows the metrics of the evaluation, and no others."""
    assert get_args(MetricName) == tuple(METRICS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("metric", "beauty"), ("margin", -1.0), ("alias", "3"), ("model", "A B"), ("largest_p_value", 0.0)],
)
def test_wrong_fields_are_refused(field: str, value: Any) -> None:
    """Unknown metrics, negative margins and names that are no plain ones."""
    with pytest.raises(ValidationError, match=field):
        PromoteParams.model_validate({field: value})
