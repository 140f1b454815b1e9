"""Reads the artifacts of evaluations and ablations for the report; `tasks.report.data` documents their files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spinmeround.models.metrics.definitions import METRICS, metric_of, p_value_text
from spinmeround.tasks.report.data import AblationSection, EvaluationSection, NovelViews, ViewValues

PICTURES = tuple(each.name for each in fields(NovelViews) if each.name not in ("id", "metrics", "rank", "psnr"))
"""Arrays of `pictures.npz`."""


def read_evaluation(path: Path) -> EvaluationSection:
    """The metrics in an `evaluation.json`."""
    return evaluation_section(json.loads(path.read_text(encoding="utf-8")))


def read_views(evaluation: Path) -> tuple[ViewValues, ...]:
    """The metrics of each view of the heads that `pictures.npz` contains, in the order of METRICS."""
    heads = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))["heads"]
    with np.load(evaluation / "pictures.npz", allow_pickle=False) as pictures:
        azimuth = pictures["azimuth_deg"]
    heads = [head for head in heads[: len(azimuth)] if "views" in head]
    found = []
    for metric in METRICS:
        values = {
            name: np.array([head["views"][name][metric] for head in heads], np.float64).ravel()
            for name in (heads[0]["views"] if heads else ())
            if all(metric in head["views"].get(name, {}) for head in heads)
        }
        if "model" in values:
            found.append(ViewValues(metric=metric, azimuth_deg=azimuth[: len(heads)].ravel(), values=values))
    return tuple(found)


def read_identities(evaluation: Path) -> dict[str, Any] | None:
    """The identities of the generated heads; None of an evaluation without them."""
    found = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    return found.get("identities") or None


def read_ablation(folder: Path) -> AblationSection:
    """The table and the figure of an ablation."""
    found = json.loads((folder / "ablation.json").read_text(encoding="utf-8"))
    with Image.open(folder / "figure.png") as figure:
        pixels = np.asarray(figure.convert("RGB"))
    return AblationSection(
        evaluation=evaluation_section(found["table"]),
        orderings=tuple(map(_ordering, found["orderings"])),
        steps=found["steps"],
        figure=pixels,
    )


def _ordering(found: Mapping[str, Any]) -> tuple[str, ...]:
    metric = metric_of(found["metric"])
    interval = None if found["low"] is None else (found["low"], found["high"])
    better = {True: "the model", False: "the variant", None: "not decided"}
    return (
        metric.label,
        found["variant"].replace("-", " "),
        metric.text(found["difference"]),
        metric.interval_text(interval),
        p_value_text(found["p_value"]),
        better[found["holds"]],
    )


def evaluation_section(found: Mapping[str, Any]) -> EvaluationSection:
    """The metrics in the fields of an `EvaluationResult`."""
    intervals = {
        name: {metric: (each["low"], each["high"]) for metric, each in metrics.items() if each["low"] is not None}
        for name, metrics in found["intervals"].items()
    }
    p_values = {
        name: {metric: each["p_value"] for metric, each in metrics.items() if each["p_value"] is not None}
        for name, metrics in found["comparisons"].items()
    }
    return EvaluationSection(
        **{name: found[name] for name in ("model", "baselines", "methods", "missing")},
        heads=len(found["heads"]),
        intervals=intervals,
        p_values=p_values,
        truth=found.get("truth", {}),
    )


def read_novel_views(folder: Path) -> tuple[NovelViews, ...]:
    """The pictures and metrics of the evaluated heads that `pictures.npz` contains: first the best, the median and the
    worst one by PSNR."""
    heads = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["heads"]
    with np.load(folder / "pictures.npz", allow_pickle=False) as pictures:
        arrays = {name: pictures[name] for name in PICTURES if name in pictures}
    heads = heads[: len(arrays["true_rgb"])]
    ranks = ranked([head["scores"]["model"].get("psnr") for head in heads])
    order = [*ranks, *(index for index in range(len(heads)) if index not in ranks)]
    return tuple(
        NovelViews(
            id=heads[index]["id"],
            metrics=heads[index]["scores"]["model"],
            rank=ranks.get(index, ""),
            psnr={
                name: tuple(views["psnr"]) for name, views in heads[index].get("views", {}).items() if "psnr" in views
            },
            **{name: array[index] for name, array in arrays.items()},
        )
        for index in order
    )


def ranked(psnr: Sequence[float | None]) -> dict[int, str]:
    """The heads with the highest, the median and the lowest PSNR, by index; none of fewer than three."""
    known = sorted((value, index) for index, value in enumerate(psnr) if value is not None)
    if len(known) < 3:
        return {}
    places = {"best": -1, "median": len(known) // 2, "worst": 0}
    return {known[place][1]: f"{name} of {len(known)} heads by PSNR" for name, place in places.items()}
