"""Evaluate: the model, two baselines and other methods against the truth, on held-out heads from a few given views.

The heads are those of the split `test`, or of `validation` if `test` is empty; training reads neither. Of a dataset
that the model was not trained on they may be all (`evaluate.split`). Result:
`evaluation.json`, the fields of `EvaluationResult`, and `pictures.npz`, as `tasks.report.data` describes it.
`models.metrics.definitions` describes the metrics. The results of each head are kept in the store as they are made, so
an evaluation that was stopped resumes with the next head and ends with the same numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.evaluation.heads import Evaluated, HeadScorer, ScoredHead
from spinmeround.tasks.evaluation.identities import nearest_training_heads
from spinmeround.tasks.evaluation.methods import MethodFolder
from spinmeround.tasks.evaluation.params import (
    VERSION,
    EvaluateParams,
    EvaluationResult,
    evaluation_key,
    key_parts,
    load_evaluation,
)
from spinmeround.tasks.evaluation.picture_sets import set_metrics
from spinmeround.tasks.evaluation.summary import summarize
from spinmeround.tasks.evaluation.views import EvaluationViews, choose_views
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.weights.inception import load_inception


@dataclass(frozen=True, kw_only=True)
class OpenEvaluation:
    """The dataset of an evaluation, the heads with their views, and what scores them."""

    data: HeadDataset
    chosen: list[EvaluationViews]
    scorer: HeadScorer


def open_evaluation(store: ArtifactStore, dataset: Path, evaluated: Evaluated) -> OpenEvaluation:
    """Choose the views, and check the pictures of other methods. Raises ConfigError for a wrong picture."""
    data, params = HeadDataset.open(dataset), evaluated.params
    chosen = choose_views(data, params, evaluated.embed.frontal)
    methods = [MethodFolder(name, Path(folder), data, chosen) for name, folder in params.predictions.items()]
    return OpenEvaluation(data=data, chosen=chosen, scorer=HeadScorer(store, data, evaluated, methods))


def run_evaluation(
    store: ArtifactStore,
    dataset: Path,
    evaluated: Evaluated,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationResult:
    """Generate and measure; writes `evaluation.json` and `pictures.npz` into `out`. `on_progress` counts heads.

    Raises ConfigError, before anything is generated, for a method's folder with a wrong picture, and for wrong weights.
    """
    opened = open_evaluation(store, dataset, evaluated)
    data, params, scorer = opened.data, evaluated.params, opened.scorer
    network = load_inception(params.inception_weights, field="evaluate.inception_weights")
    heads = []
    for views in opened.chosen:
        heads.append(scorer(views))
        on_progress(len(heads), len(opened.chosen))
    identities = nearest_training_heads(data, scorer.evaluator, heads, params)
    result = replace(summarize(heads, *set_metrics(data, scorer, heads, network)), identities=identities)
    (out / "evaluation.json").write_text(json_text(asdict(result), "evaluation"), encoding="utf-8")
    images: dict[str, Any] = _report_images(data, heads)
    np.savez(out / "pictures.npz", **images)
    return result


def _report_images(data: HeadDataset, heads: Sequence[ScoredHead]) -> dict[str, np.ndarray]:
    """Images and angles of all heads, by the array names of the report."""
    chosen = [head.views for head in heads]
    given = [read_views(data, views.subject, views.conditioning_indices) for views in chosen]
    truth = [read_views(data, views.subject, views.targets) for views in chosen]
    cameras = [data.cameras(views.subject) for views in chosen]
    angles = {
        f"{prefix}{name}": np.stack(
            [own[name][getattr(views, role)] for own, views in zip(cameras, chosen, strict=True)]
        )
        for prefix, role in (("input_", "conditioning_indices"), ("", "targets"))
        for name in ("azimuth_deg", "elevation_deg")
    }
    normals = [head.generated.normals for head in heads if head.generated.normals is not None]
    return {
        "input_rgb": np.stack([images.rgb for images in given]),
        "true_rgb": np.stack([images.rgb for images in truth]),
        "true_normals": np.stack([images.normals for images in truth]),
        "generated_rgb": np.stack([head.generated.rgb for head in heads]),
        **({"generated_normals": np.stack(normals)} if normals else {}),
        **angles,
    }


def evaluated_training(
    store: ArtifactStore, training: Mapping[str, str], params: EvaluateParams, embed: EmbedParams
) -> Evaluated:
    """What an evaluation of a training (stage -> key) evaluates. Raises MissingArtifact, CorruptArtifact."""
    ((stage, trained),) = training.items()
    pipeline = store.verify(stage, trained).path / "pipeline"
    return Evaluated(pipeline=pipeline, training=training, params=params, embed=embed)


def make_evaluation(
    store: ArtifactStore,
    dataset: Path,
    training: Mapping[str, str],
    params: EvaluateParams,
    embed: EmbedParams,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Outcome, str, EvaluationResult]:
    """Evaluate unless the store has the result; returns the outcome, the artifact's key and the result.

    `training` is the key of the training by its stage.
    """
    digest = HeadDataset.open(dataset).digest
    key = evaluation_key(digest, training, params, embed)
    content, inputs, weights = key_parts(digest, training, params, embed)

    def evaluate(out: Path) -> None:
        run_evaluation(store, dataset, evaluated_training(store, training, params, embed), out, on_progress)

    outcome = store.make_once(
        "evaluate", key, evaluate, version=VERSION, params=content, inputs=inputs, weights=weights, subject="model"
    )
    return outcome, key, load_evaluation(store.verify("evaluate", key).path)
