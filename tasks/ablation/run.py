"""Compare the evaluations of the model and of its variants: `ablation.json`, the fields of `AblationResult`, and
`figure.png`, as `tasks.ablation.figure` describes it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.ablation.compare import as_values, compared, orderings
from spinmeround.tasks.ablation.figure import ablation_figure
from spinmeround.tasks.ablation.params import (
    STAGE,
    VERSION,
    AblateParams,
    AblationResult,
    ablation_key,
    key_parts,
    load_ablation,
)
from spinmeround.tasks.evaluation.params import load_evaluation
from spinmeround.tasks.pictures.contact_sheet import save_contact_sheet


def make_ablation(
    store: ArtifactStore, evaluations: Mapping[str, str], steps: Mapping[str, int], params: AblateParams
) -> tuple[Outcome, str, AblationResult]:
    """Compare unless the store has the result; returns the outcome, the artifact's key and the result.

    `evaluations` are the keys of the evaluations by model, `steps` the steps of each model's trainings.
    """
    key, (content, inputs) = ablation_key(evaluations, steps, params), key_parts(evaluations, steps, params)

    def compare(out: Path) -> None:
        folders = {name: store.verify("evaluate", each).path for name, each in evaluations.items()}
        table = compared({name: load_evaluation(folder) for name, folder in folders.items()})
        result = AblationResult(
            table=asdict(table),
            orderings=as_values(orderings(table)),
            evaluations=dict(evaluations),
            steps=dict(steps),
        )
        (out / "ablation.json").write_text(json_text(asdict(result), "ablation"), encoding="utf-8")
        pictures = {name: _pictures(folder) for name, folder in folders.items()}
        ids = [head["id"] for head in table.heads]
        sheet = ablation_figure(pictures, ids, heads=params.figure_heads, views=params.figure_views)
        save_contact_sheet(out / "figure.png", sheet)

    outcome = store.make_once(
        STAGE, key, compare, version=VERSION, params=content, inputs=inputs, weights="", subject="model"
    )
    return outcome, key, load_ablation(store.verify(STAGE, key).path)


def _pictures(evaluation: Path) -> dict[str, Any]:
    with np.load(evaluation / "pictures.npz", allow_pickle=False) as arrays:
        return dict(arrays)
