"""Evaluate: the model and two baselines against the truth, on held-out heads from a few given views.

The heads are those of the split `test`, or of `validation` if `test` is empty; training reads neither. Result:
`evaluation.json` (metrics of the model, the baselines and each head; missing metrics with the reason) and
`pictures.npz`, both as `tasks.report.data` describes them. L2, PSNR and SSIM are means over the RGB of the target
views; the normals' angular error is the mean over all pixels where the true mask is 255; identity similarity is the
mean cosine between the embeddings of the frontal targets and the identity of the head.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.identity.alignment import align_faces, landmarks_inside, project_landmarks
from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.models.identity.params import FrontalViews
from spinmeround.models.metrics import identity_similarity, l2, normal_angular_error_deg, psnr, ssim
from spinmeround.models.metrics.perceptual import Missing, make_lpips
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages, nearest_input_view
from spinmeround.tasks.evaluation.params import (
    VERSION,
    EvaluateParams,
    EvaluationResult,
    Metrics,
    evaluation_key,
    key_parts,
    load_evaluation,
)
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams, recognition_path
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.loading.view_images import ViewImages, read_views

VIEWS, NOISE = range(2)
"""Purposes of random numbers: the choice of a head's views, the noise of its sampling."""


@dataclass(frozen=True, kw_only=True)
class EvaluationViews:
    """One held-out head of the dataset, its given views and its target views."""

    subject: int
    given: list[int]
    targets: list[int]


def choose_views(data: HeadDataset, params: EvaluateParams, frontal: FrontalViews) -> list[EvaluationViews]:
    """The heads and their views, a function of `params.seed` and the generator's seed of the head.

    Raises DatasetError if no head is held out or the heads have too few views.
    """
    held_out = data.split("test") or data.split("validation")
    if not held_out:
        raise DatasetError(
            f"{data.path}: expected a head in the split 'test' or 'validation', found none; "
            "build more heads or raise publish.test_share"
        )
    if params.given_views + params.targets > data.views:
        raise DatasetError(
            f"evaluate: expected at most {data.views} views a head, got {params.given_views} given and "
            f"{params.targets} targets; lower evaluate.targets"
        )
    cameras = Cameras(**data.cameras())
    is_frontal = frontal.select(cameras)
    return [
        _choose(subject, cameras, is_frontal, int(data.seeds[subject]), params) for subject in held_out[: params.heads]
    ]


def _choose(
    subject: int, cameras: Cameras, is_frontal: Bool[np.ndarray, " view"], head_seed: int, params: EvaluateParams
) -> EvaluationViews:
    """Views in random order: first one that shows the face, if any, and among the targets the frontal ones first."""
    order = draw_rng(params.seed, head_seed, VIEWS).permutation(len(cameras))
    facing = FrontalViews(max_azimuth_deg=90.0, max_elevation_deg=90.0).select(cameras)
    first = next((view for view in order if facing[view]), order[0])
    order = np.concatenate([[first], order[order != first]])
    given, rest = order[: params.given_views], order[params.given_views :]
    front = rest[is_frontal[rest]][: min(params.frontal_targets, params.targets)]
    others = rest[~np.isin(rest, front)][: params.targets - len(front)]
    return EvaluationViews(subject=subject, given=given.tolist(), targets=np.concatenate([front, others]).tolist())


def generate_views(
    pipeline: SpinMeRoundPipeline,
    data: HeadDataset,
    views: EvaluationViews,
    params: EvaluateParams,
    on_progress: Callable[[int, int], None] | None = None,
) -> ViewImages:
    """Generate a head's target views from its given views and identity; `on_progress` counts sampling steps."""
    cameras = Cameras(**data.cameras(views.subject))
    conditioning_views = None
    if views.given:
        given = read_views(data, views.subject, views.given)
        conditioning_views = PosedViews(
            cameras=cameras[views.given],
            images=given.rgb.astype(np.float32) / 255,
            normals=given.normals.astype(np.float32) / 255,
        )
    seed = draw_rng(params.seed, int(data.seeds[views.subject]), NOISE).integers(2**62)
    output = pipeline(
        cameras[views.targets],
        identity=data.identities[views.subject],
        conditioning_views=conditioning_views,
        guidance_scale=params.guidance_scale,
        schedule=params.schedule,
        solver=params.solver,
        generator=torch.Generator().manual_seed(int(seed)),
        output_type="np",
        on_progress=on_progress,
    )
    rgb, normals = (np.rint(images * 255).astype(np.uint8) for images in (output.images, output.normals))
    return ViewImages(rgb=rgb, normals=normals, mask=np.full(rgb.shape[:3], 255, np.uint8))


class Evaluator:
    """Computes metrics of predictions; `missing` gives the reason for each metric that could not be computed."""

    def __init__(self, data: HeadDataset, embed: EmbedParams, lpips_weights: str | None) -> None:
        self.data = data
        self.missing: dict[str, str] = {}
        self._frontal = embed.frontal
        self._lpips = make_lpips(Path(lpips_weights) if lpips_weights else None)
        if isinstance(self._lpips, Missing):
            self.missing["lpips"] = self._lpips.reason
        self._embedder = ArcFaceEmbedder(recognition_path(embed.recognition))

    def __call__(self, views: EvaluationViews, predicted: ViewImages, truth: ViewImages) -> Metrics:
        """Metrics of the predicted targets of one head, means over its views."""
        inside = truth.mask == 255
        found, true = (decode_normals(images.normals, images.mask) for images in (predicted, truth))
        return {
            "l2": float(l2(predicted.rgb, truth.rgb).mean()),
            "psnr": float(psnr(predicted.rgb, truth.rgb).mean()),
            "ssim": float(ssim(predicted.rgb, truth.rgb).mean()),
            "identity_similarity": self._identity(views, predicted),
            "normal_angular_error_deg": normal_angular_error_deg(found, true, inside).mean,
            "lpips": None if isinstance(self._lpips, Missing) else float(self._lpips(predicted.rgb, truth.rgb).mean()),
        }

    def _identity(self, views: EvaluationViews, predicted: ViewImages) -> float | None:
        cameras = Cameras(**self.data.cameras(views.subject))[views.targets]
        landmarks = self._landmarks(views.subject)
        if landmarks is None:
            self._note_missing(views.subject, "the generator has no landmarks")
            return None
        side = predicted.rgb.shape[1]
        positions = project_landmarks(cameras, landmarks, side)
        frontal = np.flatnonzero(self._frontal.select(cameras) & landmarks_inside(positions, side))
        if not len(frontal):
            self._note_missing(views.subject, "no target shows the face from the front")
            return None
        embeddings = self._embedder.embed(align_faces(predicted.rgb[frontal], positions[frontal]))
        identity = np.broadcast_to(self.data.identities[views.subject], embeddings.shape)
        return float(identity_similarity(embeddings, identity).mean())

    def _note_missing(self, subject: int, reason: str) -> None:
        self.missing["identity_similarity"] = f"{self.data.ids[subject]}: {reason}"

    def _landmarks(self, subject: int) -> Float32[np.ndarray, "5 3"] | None:
        generator = generator_of(GeneratorConfig.model_validate(self.data.attributes["generator"]))
        return generator.landmarks(generator.sample(int(self.data.seeds[subject])))


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
        generated.append(generate_views(model, data, views, params))
        scores["model"].append(evaluator(views, generated[-1], truth))
        scores["mean_training_image"].append(evaluator(views, mean_image(views.targets), truth))
        if views.given:
            scores["nearest_input_view"].append(evaluator(views, _copied_view(data, views), truth))
        on_progress(done, len(heads))
    result = _result(data, heads, scores, evaluator.missing)
    (out / "evaluation.json").write_text(json.dumps(asdict(result), indent=1, allow_nan=False))
    images: dict[str, Any] = _report_images(data, heads, generated)
    np.savez(out / "pictures.npz", **images)
    return result


def _copied_view(data: HeadDataset, views: EvaluationViews) -> ViewImages:
    cameras = Cameras(**data.cameras(views.subject))
    given = read_views(data, views.subject, views.given)
    return nearest_input_view(given, cameras[views.given], cameras[views.targets])


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
    given = [read_views(data, views.subject, views.given) for views in heads]
    truth = [read_views(data, views.subject, views.targets) for views in heads]
    cameras = data.cameras()
    angles = {
        f"{prefix}{name}": np.stack([cameras[name][getattr(views, role)] for views in heads])
        for prefix, role in (("input_", "given"), ("", "targets"))
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
    training_key: str,
    params: EvaluateParams,
    embed: EmbedParams,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Outcome, str, EvaluationResult]:
    """Evaluate unless the store has the result; returns the outcome, the artifact's key and the result."""
    digest = HeadDataset.open(dataset).digest
    key = evaluation_key(digest, training_key, params, embed)
    content, inputs, weights = key_parts(digest, training_key, params, embed)

    def evaluate(out: Path) -> None:
        run_evaluation(dataset, store.open("train", training_key).path / "pipeline", params, embed, out, on_progress)

    outcome = store.make_once(
        "evaluate", key, evaluate, version=VERSION, params=content, inputs=inputs, weights=weights, subject="model"
    )
    return outcome, key, load_evaluation(store.open("evaluate", key).path)
