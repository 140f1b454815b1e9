"""The metrics of a report as a table, and as sentences that compare the model with each baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spinmeround.tasks.report.data import EvaluationSection


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The format of a metric, and which direction is better.

    `label` is as written within a sentence, `suffix` is the unit after a single value.
    """

    label: str
    unit: str
    digits: int
    higher_is_better: bool
    suffix: str = ""

    def text(self, value: float) -> str:
        """A value as written, with a true minus (U+2212) and without unit."""
        return signed_text(f"{value:.{self.digits}f}")


METRICS = {
    "l2": Metric(label="L2", unit="mean squared difference", digits=4, higher_is_better=False),
    "psnr": Metric(label="PSNR", unit="dB", digits=2, higher_is_better=True, suffix=" dB"),
    "ssim": Metric(label="SSIM", unit="−1 to 1", digits=3, higher_is_better=True),
    "identity_similarity": Metric(
        label="identity similarity", unit="cosine of embeddings", digits=3, higher_is_better=True
    ),
    "normal_angular_error_deg": Metric(
        label="normal angular error", unit="degrees", digits=1, higher_is_better=False, suffix="°"
    ),
    "lpips": Metric(label="LPIPS", unit="learned distance", digits=3, higher_is_better=False),
}

BASELINES = {
    "nearest_input_view": "a copy of the nearest input view",
    "mean_training_image": "the mean training image at that pose",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A formatted value of the table; `text` is empty if the value is missing."""

    text: str
    best: bool


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric of the table, the model's cell first.

    `missing` is the reason why no value exists, `note` the reason why some heads or methods have none.
    """

    metric: Metric
    cells: tuple[Cell, ...]
    missing: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model compared with one baseline, as a sentence; `loses` is true if it is worse in any metric."""

    sentence: str
    loses: bool


def baseline_label(name: str) -> str:
    """A baseline as written within a sentence."""
    return BASELINES.get(name, name.replace("_", " "))


def column_heading(name: str) -> str:
    """A baseline as the heading of a column: "Nearest input view"."""
    return name.replace("_", " ").capitalize()


def metric_of(name: str) -> Metric:
    """The format of a metric; an unknown one keeps its name, and a lower value counts as better."""
    unknown = Metric(label=name.replace("_", " "), unit="lower is better", digits=4, higher_is_better=False)
    return METRICS.get(name, unknown)


def metric_rows(evaluation: EvaluationSection) -> list[MetricRow]:
    """Rows in the order of METRICS, then all others; values that are equal as written are equally good."""
    names = [name for name in METRICS if name in evaluation.model or name in evaluation.missing]
    names += [name for name in evaluation.model if name not in METRICS]
    return [_row(evaluation, name) for name in names]


def comparisons(evaluation: EvaluationSection) -> list[Comparison]:
    """One sentence per baseline, which lists the metrics in which the model is better, level or worse."""
    found = []
    for name, values in evaluation.baselines.items():
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


def signed_text(number: str) -> str:
    """A formatted number with U+2212 in place of a leading hyphen."""
    return "−" + number[1:] if number.startswith("-") else number


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
    values = [evaluation.model.get(name), *(values.get(name) for values in evaluation.baselines.values())]
    rounded = [None if value is None else round(value, metric.digits) for value in values]
    known = [value for value in rounded if value is not None]
    best = (max if metric.higher_is_better else min)(known, default=None)
    cells = tuple(
        Cell(text="" if value is None else metric.text(value), best=value is not None and value == best)
        for value in rounded
    )
    reason = evaluation.missing.get(name, "")
    if known:
        return MetricRow(metric=metric, cells=cells, missing="", note=reason)
    return MetricRow(metric=metric, cells=cells, missing=reason or "not computed", note="")


def _compared(name: str, ours: float, theirs: float) -> str:
    metric = metric_of(name)
    difference = round(ours, metric.digits) - round(theirs, metric.digits)
    if difference == 0:
        return "level"
    return "better" if (difference > 0) == metric.higher_is_better else "worse"
