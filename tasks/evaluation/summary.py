"""The table of an evaluation from the scores of its heads: means with intervals, and paired tests with the model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from spinmeround.models.metrics.statistics import mean_interval, paired_test
from spinmeround.tasks.evaluation.evaluator import HeadScores
from spinmeround.tasks.evaluation.heads import ScoredHead
from spinmeround.tasks.evaluation.params import MODEL, OWN, TRUTH, EvaluationResult, Metrics

Column = list[float | None]
"""A metric of a prediction, of each head in order."""


def summarize(
    heads: Sequence[ScoredHead], of_set: Mapping[str, Metrics], missing_of_set: Mapping[str, str]
) -> EvaluationResult:
    """The result of scored heads; `of_set` has the metrics of the whole set by prediction."""
    places = [
        {"id": head.id, "conditioning": head.views.conditioning_indices, "targets": head.views.targets}
        for head in heads
    ]
    return summarize_scores(places, [head.scores for head in heads], of_set, missing_of_set)


def summarize_scores(
    places: Sequence[Mapping[str, Any]],
    heads: Sequence[Mapping[str, HeadScores]],
    of_set: Mapping[str, Metrics],
    missing_of_set: Mapping[str, str],
) -> EvaluationResult:
    """As `summarize`, of the scores of each head by prediction; `places` has `id`, `conditioning` and `targets`."""
    columns = {name: _columns(heads, name) for name in heads[0] if name != TRUTH}
    truth = _columns(heads, TRUTH) if TRUTH in heads[0] else {}
    means = {
        name: {**{metric: _mean(values) for metric, values in metrics.items()}, **of_set.get(name, {})}
        for name, metrics in columns.items()
    }
    return EvaluationResult(
        model=means[MODEL],
        baselines={name: means[name] for name in means if name in OWN and name != MODEL},
        methods={name: means[name] for name in means if name not in OWN},
        intervals={name: _intervals(metrics) for name, metrics in columns.items()},
        comparisons=_comparisons(columns),
        missing={**_missing([place["id"] for place in places], heads), **missing_of_set},
        heads=[
            {
                **place,
                "scores": {name: scores.metrics for name, scores in head.items()},
                "views": {name: scores.views for name, scores in head.items() if name != TRUTH},
            }
            for place, head in zip(places, heads, strict=True)
        ],
        truth={metric: _mean(values) for metric, values in truth.items()},
    )


def _columns(heads: Sequence[Mapping[str, HeadScores]], prediction: str) -> dict[str, Column]:
    names = heads[0][prediction].metrics
    return {metric: [head[prediction].metrics[metric] for head in heads] for metric in names}


def _known(values: Column) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Column) -> float | None:
    """The mean over the heads that have a value."""
    return float(np.mean(known)) if (known := _known(values)) else None


def _intervals(columns: Mapping[str, Column]) -> dict[str, dict[str, Any]]:
    return {metric: asdict(mean_interval(known)) for metric, values in columns.items() if (known := _known(values))}


def _comparisons(columns: Mapping[str, Mapping[str, Column]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The model minus each other prediction, by prediction and metric."""
    ours = columns[MODEL]
    return {
        name: {
            metric: asdict(test)
            for metric, values in theirs.items()
            if (test := paired_test(ours[metric], values)) is not None
        }
        for name, theirs in columns.items()
        if name != MODEL
    }


def _missing(ids: Sequence[str], heads: Sequence[Mapping[str, HeadScores]]) -> dict[str, str]:
    """The reason for each metric that some head lacks; it names the head or the prediction if others have a value."""
    predictions = [name for name in heads[0] if name != TRUTH]
    reasons: dict[str, list[tuple[str, str, str]]] = {}
    for id, head in zip(ids, heads, strict=True):
        for name in predictions:
            for metric, reason in head[name].missing.items():
                reasons.setdefault(metric, []).append((name, id, reason))
    found = {}
    for metric, places in reasons.items():
        name, id, reason = places[0]
        text = reason if len({head for _, head, _ in places}) == len(heads) else f"{id}: {reason}"
        found[metric] = text if {name for name, _, _ in places} == set(predictions) else f"{name}: {text}"
    return found
