"""The metrics of a report as a table, and as sentences that compare the model with each baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spinmeround.models.metrics.definitions import METRICS, MetricDefinition, metric_of, p_value_text
from spinmeround.tasks.report.data import EvaluationSection

BASELINES = {
    "nearest_input_view": "a copy of the nearest input view",
    "mean_training_image": "the mean training image at that pose",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A formatted value of the table; `text` is empty if the value is missing.

    `interval` is its 95% interval, `p_value` that of the paired test with the model; both are empty where unknown.
    """

    text: str
    best: bool
    interval: str = ""
    p_value: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric of the table, the model's cell first.

    `missing` is the reason why no value exists, `note` the reason why some heads or methods have none.
    """

    metric: MetricDefinition
    cells: tuple[Cell, ...]
    missing: str
    note: str
    truth: str = ""
    """The value of the true views, where it is not the end of the range."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model compared with one baseline, as a sentence; `loses` is true if it is worse in any metric."""

    sentence: str
    loses: bool


def baseline_label(name: str) -> str:
    """A baseline as written within a sentence."""
    return BASELINES.get(name, name.replace("_", " "))


def column_heading(name: str) -> str:
    """The heading of a column: "Nearest input view" for a baseline, a method's own name."""
    return name.replace("_", " ").capitalize() if name in BASELINES else name


def metric_rows(evaluation: EvaluationSection) -> list[MetricRow]:
    """Rows in the order of METRICS, then all others; values that are equal as written are equally good."""
    names = [name for name in METRICS if name in evaluation.model or name in evaluation.missing]
    names += [name for name in evaluation.model if name not in METRICS]
    return [_row(evaluation, name) for name in names]


def comparisons(evaluation: EvaluationSection) -> list[Comparison]:
    """One sentence per baseline, which lists the metrics in which the model is better, level or worse."""
    found = []
    for name, values in evaluation.others.items():
        labels: dict[str, list[str]] = {"better": [], "level": [], "worse": []}
        for key, ours in evaluation.model.items():
            theirs = values.get(key)
            if ours is not None and theirs is not None:
                labels[_compared(key, ours, theirs)].append(metric_of(key).label)
        results = [f"{result} in {joined(metrics)}" for result, metrics in labels.items() if metrics]
        if results:
            sentence = f"Compared with {baseline_label(name)}, the model is {joined(results)}."
            found.append(Comparison(sentence=sentence, loses=bool(labels["worse"])))
    return found


def joined(items: list[str]) -> str:
    """The items as an English list: "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def flattened(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted name, in the form that `--set` accepts."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _row(evaluation: EvaluationSection, name: str) -> MetricRow:
    metric = metric_of(name)
    values = {"model": evaluation.model.get(name)}
    values |= {other: theirs.get(name) for other, theirs in evaluation.others.items()}
    rounded = {each: None if value is None else round(value, metric.digits) for each, value in values.items()}
    known = [value for value in rounded.values() if value is not None]
    best = (max if metric.higher_is_better else min)(known, default=None)
    cells = tuple(
        Cell(
            text="" if value is None else metric.text(value),
            best=value is not None and value == best,
            interval=metric.interval_text(evaluation.intervals.get(each, {}).get(name)),
            p_value=p_value_text(evaluation.p_values.get(each, {}).get(name)),
        )
        for each, value in rounded.items()
    )
    reason = evaluation.missing.get(name, "")
    if known:
        true = evaluation.truth.get(name)
        return MetricRow(
            metric=metric, cells=cells, missing="", note=reason, truth="" if true is None else metric.text(true)
        )
    return MetricRow(metric=metric, cells=cells, missing=reason or "not computed", note="")


def _compared(name: str, ours: float, theirs: float) -> str:
    metric = metric_of(name)
    difference = round(ours, metric.digits) - round(theirs, metric.digits)
    if difference == 0:
        return "level"
    return "better" if (difference > 0) == metric.higher_is_better else "worse"


def splat_rows(scores: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, list[str]]]:
    """For each metric that some kind of views has: its label with the unit, and the values by kind of views."""
    names = [name for name in next(iter(scores.values())) if any(each[name] is not None for each in scores.values())]
    rows = []
    for name in names:
        metric = metric_of(name)
        values = [each.get(name) for each in scores.values()]
        rows.append((f"{metric.label}, {metric.unit}", ["" if v is None else metric.text(v) for v in values]))
    return rows
