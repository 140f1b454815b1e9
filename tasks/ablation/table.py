"""The orderings of an ablation as a table of text, for the command line, the server and the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from spinmeround.models.metrics.definitions import metric_of, p_value_text
from spinmeround.tasks.ablation.params import LABELS


def ordering_table(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the fields of `Ordering`: model minus variant."""
    rows = []
    for each in found:
        metric = metric_of(each["metric"])
        interval = None if each["low"] is None else (each["low"], each["high"])
        words = {True: "the model is better", False: "the variant is better", None: "not decided"}
        rows.append(
            [
                metric.label,
                LABELS[each["variant"]],
                metric.text(each["difference"]),
                metric.interval_text(interval),
                p_value_text(each["p_value"]),
                words[each["holds"]],
            ]
        )
    return ["metric", "variant", "difference", "95% interval", "paired test", ""], rows
