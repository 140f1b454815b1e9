"""Evaluate: the model and two baselines against the truth, on held-out heads from a few conditioning views.

The heads are those of the split `test`, or of `validation` if `test` is empty; training reads neither. Result:
`evaluation.json` (metrics of the model, the baselines and each head; missing metrics with the reason) and
`pictures.npz`, both as `tasks.report.data` describes them. L2, PSNR and SSIM are means over the RGB of the target
views; the normals' angular error is the mean over all pixels where the true mask is 255; identity similarity is the
mean cosine between the embeddings of each predicted picture of the face and of its own true picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.numbers import check_arrays, json_text
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages, nearest_input_view
from spinmeround.tasks.evaluation.evaluator import Evaluator
from spinmeround.tasks.evaluation.params import (
    VERSION,
    EvaluateParams,
    EvaluationResult,
    Metrics,
    evaluation_key,
    key_parts,
    load_evaluation,
)
from spinmeround.tasks.evaluation.views import NOISE, EvaluationViews, choose_views
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.posed_views import read_posed_views
from spinmeround.tasks.loading.reader import read_view_identity
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.loading.view_images import ViewImages, read_views


def predict_views(
    pipeline: SpinMeRoundPipeline,
    data: HeadDataset,
    views: EvaluationViews,
    params: EvaluateParams,
    on_progress: Callable[[int, int], None] | None = None,
) -> ViewImages:
    """Generate a head's target views from its conditioning views and identity; `on_progress` counts sampling steps."""
    cameras, known = Cameras(**data.cameras(views.subject)), views.conditioning_indices
    seed = draw_rng(params.seed, int(data.seeds[views.subject]), NOISE).integers(2**62)
    output = pipeline(
        cameras[views.targets],
        identity=read_view_identity(data, views.subject, known[0] if known and params.identity == "view" else None),
        conditioning_views=read_posed_views(data, views.subject, known) if known else None,
        guidance_scale=params.guidance_scale,
        schedule=params.schedule,
        solver=params.solver,
        generator=torch.Generator().manual_seed(int(seed)),
        output_type="np",
        on_progress=on_progress,
    )
    check_arrays(f"evaluate {data.ids[views.subject]}", {"rgb": output.images, "normals": output.normals})
    rgb, normals = (np.rint(images * 255).astype(np.uint8) for images in (output.images, output.normals))
    return ViewImages(rgb=rgb, normals=normals, mask=np.full(rgb.shape[:3], 255, np.uint8))


def run_evaluation(
    dataset: Path,
    pipeline: Path,
    params: EvaluateParams,
    embed: EmbedParams,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationResult:
    """Generate and measure; writes `evaluation.json` and `pictures.npz` into `out`. `on_progress` counts heads."""
    data = HeadDataset.open(dataset)
    model = load_pipeline(pipeline)
    heads = choose_views(data, params, embed.frontal)
    evaluator, mean_image = Evaluator(data, embed, params.lpips_weights), MeanTrainingImages(data, data.split("train"))
    scores: dict[str, list[Metrics]] = {"model": [], "nearest_input_view": [], "mean_training_image": []}
    generated = []
    for done, views in enumerate(heads, start=1):
        truth = read_views(data, views.subject, views.targets)
        generated.append(predict_views(model, data, views, params))
        scores["model"].append(evaluator(views, generated[-1], truth))
        scores["mean_training_image"].append(evaluator(views, mean_image(views.targets), truth))
        if views.conditioning_indices:
            scores["nearest_input_view"].append(evaluator(views, _copied_view(data, views), truth))
        on_progress(done, len(heads))
    result = _result(data, heads, scores, evaluator.missing)
    (out / "evaluation.json").write_text(json_text(asdict(result), "evaluation"), encoding="utf-8")
    images: dict[str, Any] = _report_images(data, heads, generated)
    np.savez(out / "pictures.npz", **images)
    return result


def _copied_view(data: HeadDataset, views: EvaluationViews) -> ViewImages:
    cameras = Cameras(**data.cameras(views.subject))
    given = read_views(data, views.subject, views.conditioning_indices)
    return nearest_input_view(given, cameras[views.conditioning_indices], cameras[views.targets])


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    """Means over the heads that have a value."""
    values = {name: [value for each in metrics if (value := each[name]) is not None] for name in metrics[0]}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}


def _result(
    data: HeadDataset,
    heads: Sequence[EvaluationViews],
    scores: Mapping[str, Sequence[Metrics]],
    missing: Mapping[str, str],
) -> EvaluationResult:
    means = {name: _mean(metrics) for name, metrics in scores.items() if metrics}
    return EvaluationResult(
        model=means.pop("model"),
        baselines=means,
        missing=dict(missing),
        heads=[
            {"id": data.ids[views.subject], "metrics": metrics}
            for views, metrics in zip(heads, scores["model"], strict=True)
        ],
    )


def _report_images(
    data: HeadDataset, heads: Sequence[EvaluationViews], generated: Sequence[ViewImages]
) -> dict[str, np.ndarray]:
    """Images and angles of all heads, by the array names of the report."""
    given = [read_views(data, views.subject, views.conditioning_indices) for views in heads]
    truth = [read_views(data, views.subject, views.targets) for views in heads]
    cameras = [data.cameras(views.subject) for views in heads]
    angles = {
        f"{prefix}{name}": np.stack(
            [own[name][getattr(views, role)] for own, views in zip(cameras, heads, strict=True)]
        )
        for prefix, role in (("input_", "conditioning_indices"), ("", "targets"))
        for name in ("azimuth_deg", "elevation_deg")
    }
    return {
        "input_rgb": np.stack([images.rgb for images in given]),
        "true_rgb": np.stack([images.rgb for images in truth]),
        "true_normals": np.stack([images.normals for images in truth]),
        "generated_rgb": np.stack([images.rgb for images in generated]),
        "generated_normals": np.stack([images.normals for images in generated]),
        **angles,
    }


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
        ((stage, trained),) = training.items()
        run_evaluation(dataset, store.verify(stage, trained).path / "pipeline", params, embed, out, on_progress)

    outcome = store.make_once(
        "evaluate", key, evaluate, version=VERSION, params=content, inputs=inputs, weights=weights, subject="model"
    )
    return outcome, key, load_evaluation(store.verify("evaluate", key).path)
