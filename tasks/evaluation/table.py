"""The result of an evaluation as a table of text, for the command line and the server. Reads plain values."""

from collections.abc import Mapping
from typing import Any

from spinmeround.models.metrics.definitions import METRICS, metric_of, p_value_text
from spinmeround.tasks.evaluation.params import MODEL


def metric_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the fields of an `EvaluationResult`: a row for each metric, a column for each prediction."""
    predictions = {MODEL: result["model"], **result["baselines"], **result["methods"]}
    known = [name for name in METRICS if any(values.get(name) is not None for values in predictions.values())]
    labels = [name if name in result["methods"] else name.replace("_", " ") for name in predictions]
    rows = [[_label(result, metric), *(_cell(result, name, metric) for name in predictions)] for metric in known]
    return ["metric", *labels], rows


def missing_lines(result: Mapping[str, Any]) -> list[str]:
    """A line for each metric that is missing, altogether or in part, with its reason."""
    return [f"missing: {metric_of(metric).label}: {reason}" for metric, reason in result["missing"].items()]


def _label(result: Mapping[str, Any], metric: str) -> str:
    """The metric, with the value of the true views if it compares views with each other."""
    shown, true = metric_of(metric), result.get("truth", {}).get(metric)
    return shown.label if true is None else f"{shown.label} (true views {shown.text(true)})"


def _cell(result: Mapping[str, Any], prediction: str, metric: str) -> str:
    """A value as "0.61 (0.55 to 0.67, p = 0.031)"."""
    values = result["model"] if prediction == MODEL else {**result["baselines"], **result["methods"]}[prediction]
    if (value := values.get(metric)) is None:
        return "missing"
    found = metric_of(metric)
    spread = result["intervals"].get(prediction, {}).get(metric)
    interval = (spread["low"], spread["high"]) if spread and spread["low"] is not None else None
    tested = result["comparisons"].get(prediction, {}).get(metric)
    about = [found.interval_text(interval), p_value_text(tested["p_value"] if tested else None)]
    shown = ", ".join(filter(None, about))
    return found.text(value) + (f" ({shown})" if shown else "")
