"""Paired comparison of the models of two evaluations on the same views of the same heads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinmeround.models.metrics.definitions import metric_of, p_value_text
from spinmeround.models.metrics.statistics import paired_test
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.params import MODEL

_VIEWS = ("id", "conditioning", "targets")


def read_result(file: Path) -> dict[str, Any]:
    """The fields of an `EvaluationResult` in an `evaluation.json` or in the `summary.json` of a run.

    Raises ConfigError for another file.
    """
    expected = "the evaluation.json or the summary.json of a run with an evaluation"
    found = read_json_object(file, expected)
    try:
        found = found.get("evaluation", found)
        return {"heads": [{name: head[name] for name in (*_VIEWS, "scores")} for head in found["heads"]]}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file}: expected {expected}, found none of this version") from error


def against_table(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each metric the mean difference, ours minus theirs, its 95% interval and the p-value.

    Raises ConfigError if the two have other heads or views.
    """
    require_same_views(ours["heads"], theirs["heads"], "--against")
    first, second = ({head["id"]: head for head in each["heads"]} for each in (ours, theirs))
    scores = [[each[id]["scores"][MODEL] for id in first] for each in (first, second)]
    rows = []
    for metric in scores[0][0]:
        test = paired_test(*([head.get(metric) for head in each] for each in scores))
        if test is None:
            continue
        shown, difference = metric_of(metric), test.difference
        interval = None if difference.low is None or difference.high is None else (difference.low, difference.high)
        better = "higher" if shown.higher_is_better else "lower"
        rows.append(
            [
                shown.label,
                shown.text(difference.mean),
                shown.interval_text(interval),
                p_value_text(test.p_value),
                f"{better} is better, {difference.heads} heads",
            ]
        )
    return ["metric", "difference", "95% interval", "paired test", ""], rows


def require_same_views(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], what: str) -> None:
    """Raises ConfigError that begins with `what` if the heads of two evaluations, or their views, differ."""
    first, second = ({head["id"]: head for head in heads} for heads in (ours, theirs))
    for id in sorted(first.keys() | second.keys()):
        views = [None if id not in each else [each[id][name] for name in _VIEWS] for each in (first, second)]
        if views[0] != views[1]:
            raise ConfigError(
                f"{what}: expected an evaluation of the same views of the same heads, found {id} with others; "
                "evaluate both models on one dataset with the same evaluate.heads, targets, conditioning_views and seed"
            )
