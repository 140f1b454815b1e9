"""The metrics as a table and in words: which of the model and the baselines is best, and where the model loses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spinmeround.tasks.report.data import Evaluation


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is written (its label as within a sentence), and which direction is better."""

    label: str
    unit: str
    digits: int
    higher_is_better: bool


METRICS = {
    "l2": Metric(label="L2", unit="mean squared difference", digits=4, higher_is_better=False),
    "psnr": Metric(label="PSNR", unit="dB", digits=2, higher_is_better=True),
    "ssim": Metric(label="SSIM", unit="−1 to 1", digits=3, higher_is_better=True),
    "identity_similarity": Metric(
        label="identity similarity", unit="cosine of embeddings", digits=3, higher_is_better=True
    ),
    "normal_angular_error_deg": Metric(label="normal angular error", unit="degrees", digits=1, higher_is_better=False),
    "lpips": Metric(label="LPIPS", unit="learned distance", digits=3, higher_is_better=False),
}

CONTENDERS = {
    "model": "the model",
    "nearest_input_view": "the nearest input view, copied",
    "mean_training_image": "the mean training image of that pose",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value as the table shows it; `text` is empty where there is none."""

    text: str
    best: bool


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric of the table, the model's cell first.

    `missing` says why there is no value at all, `note` why some heads or contenders have none.
    """

    metric: Metric
    cells: tuple[Cell, ...]
    missing: str
    note: str


def contender(name: str) -> str:
    """A baseline or the model, in words."""
    return CONTENDERS.get(name, name.replace("_", " "))


def heading(name: str) -> str:
    """A baseline's name as the head of a column: "Nearest input view"."""
    return name.replace("_", " ").capitalize()


def metric_of(name: str) -> Metric:
    """How to write the metric; one that is not known here is shown under its own name, lower taken as better."""
    unknown = Metric(label=name.replace("_", " "), unit="lower is better", digits=4, higher_is_better=False)
    return METRICS.get(name, unknown)


def metric_rows(evaluation: Evaluation) -> list[MetricRow]:
    """Rows in the order of METRICS, then any other; equal written values are equally good."""
    names = [name for name in METRICS if name in evaluation.model or name in evaluation.missing]
    names += [name for name in evaluation.model if name not in METRICS]
    return [_row(evaluation, name) for name in names]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How the model does against one baseline, in words."""

    sentence: str
    loses: bool


def verdicts(evaluation: Evaluation) -> list[Verdict]:
    """One sentence a baseline, which says where the model wins and, as plainly, where it loses."""
    found = []
    for name, values in evaluation.baselines.items():
        labels: dict[str, list[str]] = {"better": [], "level": [], "worse": []}
        for key, ours in evaluation.model.items():
            theirs = values.get(key)
            if ours is not None and theirs is not None:
                labels[_compared(key, ours, theirs)].append(metric_of(key).label)
        said = [f"{word} in {listed(those)}" for word, those in labels.items() if those]
        if said:
            sentence = f"Against {contender(name)}, the model is {listed(said)}."
            found.append(Verdict(sentence=sentence, loses=bool(labels["worse"])))
    return found


def listed(words: list[str]) -> str:
    """The words as English lists them: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def flattened(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted name, as the command line's `--set` takes them."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _row(evaluation: Evaluation, name: str) -> MetricRow:
    metric = metric_of(name)
    values = [evaluation.model.get(name), *(values.get(name) for values in evaluation.baselines.values())]
    written = [None if value is None else round(value, metric.digits) for value in values]
    there = [value for value in written if value is not None]
    best = (max if metric.higher_is_better else min)(there, default=None)
    cells = tuple(
        Cell(text="" if value is None else f"{value:.{metric.digits}f}", best=value is not None and value == best)
        for value in written
    )
    reason = evaluation.missing.get(name, "")
    if there:
        return MetricRow(metric=metric, cells=cells, missing="", note=reason)
    return MetricRow(metric=metric, cells=cells, missing=reason or "not computed", note="")


def _compared(name: str, ours: float, theirs: float) -> str:
    metric = metric_of(name)
    difference = round(ours, metric.digits) - round(theirs, metric.digits)
    if difference == 0:
        return "level"
    return "better" if (difference > 0) == metric.higher_is_better else "worse"
