"""Evaluate: held-out heads from a few given views, the model and two baselines against the truth.

The heads are of the split `test` (`validation` where it is empty), none of which training has read. Result:
`evaluation.json` (metrics of the model, the baselines and each head; what is missing and why) and
`pictures.npz`, both as `tasks.report_data` describes them. L2, PSNR and SSIM are means over target views of
the RGB; the normals' angular error is the mean over all pixels that the true mask covers fully; identity
similarity is the mean cosine between the embeddings of the frontal targets and the head's identity.
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
from spinmeround.models.identity.arcface import ArcFaceEmbedder, FrontalViews
from spinmeround.models.metrics import identity_similarity, l2, normal_angular_error_deg, psnr, ssim
from spinmeround.models.metrics.perceptual import Missing, make_lpips
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages, Pictures, nearest_input_view, read_pictures
from spinmeround.tasks.evaluation.params import (
    VERSION,
    EvaluateParams,
    Evaluation,
    Metrics,
    evaluation_key,
    key_parts,
    load_evaluation,
)
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams, recognition_path
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.stage import Outcome
from spinmeround.tasks.training.batches import step_rng


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One held-out head: which views are given, which are to be generated."""

    index: int
    given: list[int]
    targets: list[int]


def choose_subjects(data: HeadDataset, params: EvaluateParams, frontal: FrontalViews) -> list[Subject]:
    """The heads and their views, a function of the seed and the head's number of the generator.

    Raises DatasetError where no head is held out, or a head has too few views.
    """
    held_out = data.split("test") or data.split("validation")
    if not held_out:
        raise DatasetError(
            f"{data.path}: expected a head in the split 'test' or 'validation', found none; "
            "ask for more heads or raise publish.test_share"
        )
    if params.conditioning + params.targets > data.views:
        raise DatasetError(
            f"evaluate: expected at most {data.views} views a head, got {params.conditioning} given and "
            f"{params.targets} targets; lower evaluate.targets"
        )
    cameras = Cameras(**data.cameras())
    is_frontal = frontal.select(cameras)
    return [
        _choose(subject, cameras, is_frontal, int(data.seeds[subject]), params) for subject in held_out[: params.heads]
    ]


def _choose(
    subject: int, cameras: Cameras, is_frontal: Bool[np.ndarray, " view"], head_seed: int, params: EvaluateParams
) -> Subject:
    order = step_rng(params.seed, head_seed, 0).permutation(len(cameras))
    facing = FrontalViews(max_azimuth_deg=90.0, max_elevation_deg=90.0).select(cameras)
    first = next((view for view in order if facing[view]), order[0])
    order = np.concatenate([[first], order[order != first]])
    given, rest = order[: params.conditioning], order[params.conditioning :]
    front = rest[is_frontal[rest]][: min(params.frontal_targets, params.targets)]
    others = rest[~np.isin(rest, front)][: params.targets - len(front)]
    return Subject(index=subject, given=given.tolist(), targets=np.concatenate([front, others]).tolist())


def generate(
    pipeline: SpinMeRoundPipeline,
    data: HeadDataset,
    subject: Subject,
    params: EvaluateParams,
    progress: Callable[[int, int], None] | None = None,
) -> Pictures:
    """What the model makes of a head's given views and identity; `progress(done, steps)` counts the steps."""
    cameras = Cameras(**data.cameras(subject.index))
    conditioning = None
    if subject.given:
        given = read_pictures(data, subject.index, subject.given)
        conditioning = PosedViews(
            cameras=cameras[subject.given],
            images=given.rgb.astype(np.float32) / 255,
            normals=given.normals.astype(np.float32) / 255,
        )
    seed = step_rng(params.seed, int(data.seeds[subject.index]), 1).integers(2**62)
    output = pipeline(
        cameras[subject.targets],
        identity=data.identities[subject.index],
        conditioning=conditioning,
        guidance_scale=params.guidance_scale,
        schedule=params.schedule,
        solver=params.solver,
        generator=torch.Generator().manual_seed(int(seed)),
        output_type="np",
        progress=progress,
    )
    rgb, normals = (np.rint(pictures * 255).astype(np.uint8) for pictures in (output.images, output.normals))
    return Pictures(rgb=rgb, normals=normals, mask=np.full(rgb.shape[:3], 255, np.uint8))


class Judge:
    """Measures predictions against the truth; `missing` names the metrics that cannot be taken, and why."""

    def __init__(self, data: HeadDataset, embed: EmbedParams, lpips_weights: str | None) -> None:
        self.data = data
        self.missing: dict[str, str] = {}
        self._frontal = embed.frontal
        self._lpips = make_lpips(Path(lpips_weights) if lpips_weights else None)
        if isinstance(self._lpips, Missing):
            self.missing["lpips"] = self._lpips.reason
        self._embedder = ArcFaceEmbedder(recognition_path(embed.recognition))

    def __call__(self, subject: Subject, predicted: Pictures, truth: Pictures) -> Metrics:
        inside = truth.mask == 255
        found, true = (decode_normals(pictures.normals, pictures.mask) for pictures in (predicted, truth))
        return {
            "l2": float(l2(predicted.rgb, truth.rgb).mean()),
            "psnr": float(psnr(predicted.rgb, truth.rgb).mean()),
            "ssim": float(ssim(predicted.rgb, truth.rgb).mean()),
            "identity_similarity": self._identity(subject, predicted),
            "normal_angular_error_deg": normal_angular_error_deg(found, true, inside).mean,
            "lpips": None if isinstance(self._lpips, Missing) else float(self._lpips(predicted.rgb, truth.rgb).mean()),
        }

    def _identity(self, subject: Subject, predicted: Pictures) -> float | None:
        cameras, landmarks = Cameras(**self.data.cameras(subject.index))[subject.targets], self._landmarks(subject)
        if landmarks is None:
            self._note_missing(subject, "the generator gives no landmarks")
            return None
        side = predicted.rgb.shape[1]
        positions = project_landmarks(cameras, landmarks, side)
        frontal = np.flatnonzero(self._frontal.select(cameras) & landmarks_inside(positions, side))
        if not len(frontal):
            self._note_missing(subject, "no target shows the face from the front")
            return None
        embeddings = self._embedder.embed(align_faces(predicted.rgb[frontal], positions[frontal]))
        identity = np.broadcast_to(self.data.identities[subject.index], embeddings.shape)
        return float(identity_similarity(embeddings, identity).mean())

    def _note_missing(self, subject: Subject, reason: str) -> None:
        self.missing["identity_similarity"] = f"{self.data.ids[subject.index]}: {reason}"

    def _landmarks(self, subject: Subject) -> Float32[np.ndarray, "5 3"] | None:
        generator = generator_of({"generator": GeneratorConfig.model_validate(self.data.attributes["generator"])})
        return generator.landmarks(generator.sample(int(self.data.seeds[subject.index])))


def run_evaluation(
    dataset: Path,
    pipeline: Path,
    params: EvaluateParams,
    embed: EmbedParams,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, heads: None,
) -> Evaluation:
    """Generates and measures, and writes `evaluation.json` and `pictures.npz` into `out`."""
    data = HeadDataset.open(dataset)
    model = load_pipeline(pipeline)
    subjects = choose_subjects(data, params, embed.frontal)
    judge, mean_image = Judge(data, embed, params.lpips_weights), MeanTrainingImages(data, data.split("train"))
    scores: dict[str, list[Metrics]] = {"model": [], "nearest_input_view": [], "mean_training_image": []}
    generated = []
    for done, subject in enumerate(subjects, start=1):
        truth = read_pictures(data, subject.index, subject.targets)
        generated.append(generate(model, data, subject, params))
        scores["model"].append(judge(subject, generated[-1], truth))
        scores["mean_training_image"].append(judge(subject, mean_image(subject.targets), truth))
        if subject.given:
            scores["nearest_input_view"].append(judge(subject, _copied_view(data, subject), truth))
        progress(done, len(subjects))
    evaluation = _summarise(data, subjects, scores, judge.missing)
    (out / "evaluation.json").write_text(json.dumps(asdict(evaluation), indent=1, allow_nan=False))
    pictures: dict[str, Any] = _pictures(data, subjects, generated)
    np.savez(out / "pictures.npz", **pictures)
    return evaluation


def _copied_view(data: HeadDataset, subject: Subject) -> Pictures:
    cameras = Cameras(**data.cameras(subject.index))
    given = read_pictures(data, subject.index, subject.given)
    return nearest_input_view(given, cameras[subject.given], cameras[subject.targets])


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    """Means over the heads that have a value."""
    values = {name: [value for each in metrics if (value := each[name]) is not None] for name in metrics[0]}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}


def _summarise(
    data: HeadDataset,
    subjects: Sequence[Subject],
    scores: Mapping[str, Sequence[Metrics]],
    missing: Mapping[str, str],
) -> Evaluation:
    means = {name: _mean(metrics) for name, metrics in scores.items() if metrics}
    return Evaluation(
        model=means.pop("model"),
        baselines=means,
        missing=dict(missing),
        heads=[
            {"id": data.ids[subject.index], "metrics": metrics}
            for subject, metrics in zip(subjects, scores["model"], strict=True)
        ],
    )


def _pictures(data: HeadDataset, subjects: Sequence[Subject], generated: Sequence[Pictures]) -> dict[str, np.ndarray]:
    """Pictures and angles of all heads, as the report wants them."""
    given = [read_pictures(data, subject.index, subject.given) for subject in subjects]
    truth = [read_pictures(data, subject.index, subject.targets) for subject in subjects]
    cameras = data.cameras()
    angles = {
        f"{prefix}{name}": np.stack([cameras[name][getattr(subject, views)] for subject in subjects])
        for prefix, views in (("input_", "given"), ("", "targets"))
        for name in ("azimuth_deg", "elevation_deg")
    }
    return {
        "input_rgb": np.stack([pictures.rgb for pictures in given]),
        "true_rgb": np.stack([pictures.rgb for pictures in truth]),
        "true_normals": np.stack([pictures.normals for pictures in truth]),
        "generated_rgb": np.stack([pictures.rgb for pictures in generated]),
        "generated_normals": np.stack([pictures.normals for pictures in generated]),
        **angles,
    }


def make_evaluation(
    store: ArtifactStore,
    dataset: Path,
    training_key: str,
    params: EvaluateParams,
    embed: EmbedParams,
    progress: Callable[[int, int], None] = lambda done, heads: None,
) -> tuple[Outcome, str, Evaluation]:
    """Evaluates unless the store has the result; returns the outcome, the artifact's key and the result."""
    digest = HeadDataset.open(dataset).digest
    key = evaluation_key(digest, training_key, params, embed)
    content, inputs, weights = key_parts(digest, training_key, params, embed)
    outcome: Outcome = "reused"
    with store.lock("evaluate", key):
        if not store.has("evaluate", key):
            outcome = "made"
            pipeline = store.open("train", training_key).path / "pipeline"
            with store.commit(
                "evaluate", key, version=VERSION, params=content, inputs=inputs, weights=weights, subject="model"
            ) as out:
                run_evaluation(dataset, pipeline, params, embed, out, progress)
    return outcome, key, load_evaluation(store.open("evaluate", key).path)
