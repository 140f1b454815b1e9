"""One table of several evaluations of the same views: the variants are methods, tested against the model by pairs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from spinmeround.models.metrics.definitions import METRICS, metric_of
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.ablation.params import Ordering
from spinmeround.tasks.evaluation.evaluator import HeadScores
from spinmeround.tasks.evaluation.params import MODEL, TRUTH, EvaluationResult
from spinmeround.tasks.evaluation.summary import summarize_scores

_VIEWS = ("id", "conditioning", "targets")


def compared(evaluations: Mapping[str, EvaluationResult]) -> EvaluationResult:
    """The result whose model is that of `MODEL` and whose methods are the other models.

    Raises SpinMeRoundError if they are of other heads or views.
    """
    heads = evaluations[MODEL].heads
    views = [[head[name] for name in _VIEWS] for head in heads]
    for name, result in evaluations.items():
        if [[head[each] for each in _VIEWS] for head in result.heads] != views:
            raise SpinMeRoundError(f"ablation: expected the same views of the same heads, found others for {name}")
    rows = [
        {**{name: _scores(result, number) for name, result in evaluations.items()}, **_truth(heads[number])}
        for number, _ in enumerate(heads)
    ]
    sets = {
        name: {metric: result.model.get(metric) for metric, found in METRICS.items() if found.of_set}
        for name, result in evaluations.items()
    }
    missing = {metric: reason for metric, reason in evaluations[MODEL].missing.items() if metric_of(metric).of_set}
    places = [{name: head[name] for name in _VIEWS} for head in heads]
    return summarize_scores(places, rows, sets, missing)


def _scores(result: EvaluationResult, number: int) -> HeadScores:
    metrics = result.heads[number]["scores"][MODEL]
    lacking = [metric for metric, value in metrics.items() if value is None]
    reasons = {name: result.missing.get(name, "not measured").removeprefix(f"{MODEL}: ") for name in lacking}
    return HeadScores(metrics=metrics, missing=reasons)


def _truth(head: Mapping[str, Any]) -> dict[str, HeadScores]:
    return {TRUTH: HeadScores(metrics=head["scores"][TRUTH])} if TRUTH in head["scores"] else {}


def orderings(result: EvaluationResult) -> list[Ordering]:
    """For each metric and variant whether the model is better, by the interval of the mean difference."""
    found = []
    for metric in METRICS:
        for variant, tests in result.comparisons.items():
            if metric not in tests:
                continue
            difference, p_value = tests[metric]["difference"], tests[metric]["p_value"]
            low, high = difference["low"], difference["high"]
            apart = low is not None and (low > 0 or high < 0)
            better = (difference["mean"] > 0) == metric_of(metric).higher_is_better
            found.append(
                Ordering(
                    metric=metric,
                    variant=variant,
                    difference=difference["mean"],
                    low=low,
                    high=high,
                    p_value=p_value,
                    holds=better if apart else None,
                )
            )
    return found


def as_values(found: list[Ordering]) -> list[dict[str, Any]]:
    """The orderings as plain values."""
    return [asdict(each) for each in found]
