"""Compares a new model with the promoted one by one metric, on the same views of the same heads.

A difference is the mean over the heads that both have a value of, new minus promoted, with the paired test of
`models.metrics.statistics`. Metrics of sets of pictures have one value for all heads, and no test.
"""

from dataclasses import dataclass

from spinmeround.models.metrics.definitions import METRICS, MetricDefinition, p_value_text
from spinmeround.models.metrics.statistics import PairedTest, paired_test
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.against import require_same_views
from spinmeround.tasks.evaluation.params import MODEL, EvaluationResult
from spinmeround.tasks.promotion.params import PromoteParams


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether a new model is better than the promoted one, and `reason`, a sentence that says why or why not.

    `improvement` is positive for a better model, in the unit of the metric; None if one of the two has no value.
    """

    better: bool
    reason: str
    improvement: float | None = None


def compare(new: EvaluationResult, promoted: EvaluationResult | None, params: PromoteParams) -> Comparison:
    """Whether `new` is better than `promoted` by `params.metric` and `params.margin`; any is better than None.

    A new model without a value of the metric is not better. Raises ConfigError if the two have other heads or views.
    """
    metric = METRICS[params.metric]
    value = new.model.get(params.metric)
    if value is None:
        why = new.missing.get(params.metric, "it was not measured")
        return Comparison(better=False, reason=f"the new model has no {metric.label}: {why}")
    if promoted is None:
        return Comparison(better=True, reason=f"{params.alias} has no model yet; {_shown(metric, value)} is the first")
    require_same_views(new.heads, promoted.heads, "promote")
    before = promoted.model.get(params.metric)
    if before is None:
        why = promoted.missing.get(params.metric, "it was not measured")
        raise ConfigError(
            f"promote.metric: expected a metric of both models, found no {metric.label} of the promoted one ({why}); "
            "choose another metric, or move the alias with 'spinmeround models alias'"
        )
    if metric.of_set:
        return _decided(metric, params, value, before, value - before, None)
    scores = [{head["id"]: head["scores"][MODEL].get(params.metric) for head in each.heads} for each in (new, promoted)]
    test = paired_test(*([found[id] for id in scores[0]] for found in scores))
    if test is None:
        return Comparison(better=False, reason=f"no head has the {metric.label} of both models")
    return _decided(metric, params, value, before, test.difference.mean, test)


def _decided(
    metric: MetricDefinition,
    params: PromoteParams,
    value: float,
    before: float,
    difference: float,
    test: PairedTest | None,
) -> Comparison:
    improvement = difference if metric.higher_is_better else -difference
    values = f"{metric.label} {_shown(metric, value)}, promoted model {_shown(metric, before)}"
    found = f"{values}: difference {_shown(metric, difference)}{_tested(metric, test)}"
    p_value = None if test is None else test.p_value
    if improvement <= 0:
        return Comparison(better=False, improvement=improvement, reason=f"{found}; the new model is not better")
    if improvement < params.margin:
        wanted = f"expected at least {_precise(params.margin)}{metric.suffix} (promote.margin)"
        return Comparison(better=False, improvement=improvement, reason=f"{found}; {wanted}")
    if params.largest_p_value < 1 and (p_value is None or p_value > params.largest_p_value):
        wanted = f"expected a paired test with p of at most {params.largest_p_value:g} (promote.largest_p_value)"
        return Comparison(better=False, improvement=improvement, reason=f"{found}; {wanted}")
    return Comparison(better=True, improvement=improvement, reason=f"{found}; the new model is better")


def _shown(metric: MetricDefinition, value: float) -> str:
    return f"{metric.text(value)}{metric.suffix}"


def _precise(value: float) -> str:
    return f"{value:.10g}"


def _tested(metric: MetricDefinition, test: PairedTest | None) -> str:
    """The interval, the p-value and the number of heads, in brackets."""
    if test is None:
        return ""
    difference = test.difference
    interval = None if difference.low is None or difference.high is None else (difference.low, difference.high)
    heads = f"{difference.heads} head{'s' if difference.heads != 1 else ''}"
    return f" ({', '.join(filter(None, [metric.interval_text(interval), p_value_text(test.p_value), heads]))})"
