"""The results of training and evaluation, and the counts of stages, as the report takes them.

The forms of `history.json`, `evaluation.json` and `pictures.npz` are in `tasks.report_data`.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.artifacts.store import Artifact
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.report.data import Evaluation, LossCurve, NovelViews, StageRow

PICTURES = tuple(each.name for each in fields(NovelViews) if each.name not in ("id", "metrics"))
"""Arrays of `pictures.npz`."""

PHASES = ("adapt", "single_view", "multi_view")
"""Sections of a training's parameters that say how many steps each of its phases has, in order."""


def read_curves(training: Artifact) -> tuple[LossCurve, ...]:
    """The loss curves of a training, with its phases where its parameters have them."""
    phases = training_phases(training.manifest.params)
    found = json.loads((training.path / "history.json").read_text())
    runs: list[dict[str, Any]] = [{"name": "training", "history": found}] if isinstance(found, list) else found["runs"]
    return tuple(
        LossCurve(
            name=run["name"],
            step=np.array([record["step"] for record in run["history"]], np.float64),
            loss=np.array([record["loss"] for record in run["history"]], np.float64),
            phases=phases,
        )
        for run in runs
    )


def training_phases(params: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Names and last steps of the phases that have any step."""
    phases, end = [], 0
    for name in PHASES:
        if steps := params.get(name, {}).get("steps", 0):
            end += steps
            phases.append((name.replace("_", " "), end))
    return tuple(phases)


def read_evaluation(path: Path) -> Evaluation:
    """The metrics in an `evaluation.json`."""
    found = json.loads(path.read_text())
    return Evaluation(
        model=found["model"], baselines=found["baselines"], missing=found["missing"], heads=len(found["heads"])
    )


def read_novel_views(folder: Path) -> tuple[NovelViews, ...]:
    """The pictures of an evaluation's heads, those that `pictures.npz` holds."""
    heads = json.loads((folder / "evaluation.json").read_text())["heads"]
    with np.load(folder / "pictures.npz", allow_pickle=False) as pictures:
        arrays = {name: pictures[name] for name in PICTURES}
    shown = len(arrays["true_rgb"])
    return tuple(
        NovelViews(
            id=head["id"],
            metrics=head.get("metrics", {}),
            **{name: array[index] for name, array in arrays.items()},
        )
        for index, head in enumerate(heads[:shown])
    )


def stage_rows(counts: Mapping[str, Mapping[str, float]], parameters: Mapping[str, Any]) -> tuple[StageRow, ...]:
    """The stages as the summary counts them, each with its version and the parameters that it reads."""
    known = {stage.name: stage for stage in HEAD_STAGES}
    rows = []
    for name, count in counts.items():
        stage = known.get(name)
        reads = stage.reads if stage else (name,)
        rows.append(
            StageRow(
                name=name,
                version=stage.version if stage else None,
                made=int(count["made"]),
                reused=int(count["reused"]),
                seconds=float(count["seconds"]),
                parameters={section: parameters[section] for section in reads if section in parameters},
            )
        )
    return tuple(rows)
