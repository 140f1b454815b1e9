"""Configuration, key and result of an evaluation. Imports no networks, so a cached result is found without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from spinmeround.models.diffusion.params import NoiseSchedule, SolverParams
from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG
from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.embed import EmbedParams, detector_path, recognition_path
from spinmeround.tasks.stage import StageParams

VERSION = 4
"""Version of the table. That of the heads' own results is `tasks.evaluation.heads.VERSION`."""
Metrics = dict[str, float | None]

MODEL, NEAREST, MEAN = "model", "nearest_input_view", "mean_training_image"
OWN = (MODEL, NEAREST, MEAN)
"""Predictions that the evaluation makes itself; those of other methods come from folders."""

TRUTH = "truth"
"""The true views, as a prediction, of which only metrics between views have a value that is not known."""

MethodName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class EvaluateParams(StageParams):
    """Views that the evaluation generates, the sampling settings, and the predictions of other methods."""

    heads: int = Field(8, ge=0, description="Number of heads; 0, or more than the dataset has: all")
    split: Literal["held-out", "all"] = Field(
        "held-out", description="Heads that the split holds out, or any of a dataset that the model was not trained on"
    )
    conditioning_views: Literal[0, 1, 3] = Field(1, description="Conditioning views of each head")
    facing_deg: float = Field(
        FACE_VISIBLE_DEG,
        ge=0.0,
        le=180.0,
        description="Largest |azimuth| of the first conditioning view",
    )
    frontal_input: bool = Field(
        False, description="The first conditioning view is the one nearest to the front, not a random one"
    )
    targets: int = Field(
        7,
        ge=0,
        description="Generated views of each head; 0: all but the conditioning ones. More than a group of the model "
        "holds take several groups",
    )
    frontal_targets: int = Field(2, ge=0, description="Number of targets that show the face from the front")
    identity: Literal["view", "mean"] = Field(
        "view", description="Embedding that conditions the model: of the first conditioning view, or of the head"
    )
    anchored: bool | None = Field(
        None, description="Generate a ring of anchors first; default: if the views of a head take several groups"
    )
    guidance_scale: float | None = Field(None, ge=0.0, description="Default: 3, or 3.5 without conditioning views")
    schedule: NoiseSchedule = NoiseSchedule()
    solver: SolverParams = SolverParams()
    seed: int = Field(0, ge=0, description="Seed of the choice of views and of the sampling")
    lpips_weights: str | None = Field(None, description="File of torchvision's AlexNet weights, for LPIPS")
    inception_weights: str | None = Field(
        None, description="File of torch-fidelity's Inception weights (2015-12-05), for FID and KID"
    )
    predictions: dict[MethodName, str] = Field(
        default_factory=dict, description="Folders with predictions of other methods, by the name of the method"
    )

    @field_validator("predictions")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        reserved = (*OWN, TRUTH)
        if taken := [name for name in value if name in reserved]:
            raise ValueError(f"expected names other than {', '.join(reserved)}, got {taken[0]!r}")
        return value


PresetName = Literal["ablation", "nersemble"]
PRESETS: dict[PresetName, dict[str, Any]] = {
    "ablation": {
        "heads": 100,
        "conditioning_views": 1,
        "frontal_input": True,
        "targets": 10,
        "anchored": False,
    },
    "nersemble": {
        "heads": 0,
        "split": "all",
        "conditioning_views": 1,
        "frontal_input": True,
        "targets": 0,
    },
}
"""Fields of the benchmarks: the paper's ablation, and all views of all heads of a dataset from one frontal view."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The scores of the model, the baselines and other methods, as `evaluation.json` has them.

    `model`, `baselines` and `methods` are means over heads, or values of the whole set, by metric; `missing` gives the
    reason for each that is None. `intervals` holds, by prediction and metric, the fields of
    `models.metrics.statistics.MeanInterval`; `comparisons` those of its `PairedTest`, the model minus each other
    prediction. `heads` has for each head `id`, the indices of its views `conditioning` and `targets`, and `scores`:
    the metrics by prediction, and `views`, those of each target. `truth` has the values of the true views, of metrics
    that compare views with each other. `identities` has for each head of which the model's pictures show the face `id`,
    `own`, the cosine similarity of the generated and the true identity, and the training head `nearest` to the
    generated identity, with its `nearest_similarity`; `true_nearest_similarity` is that of the true identity and the
    training head nearest to it. Without any, `missing` is the reason.
    """

    model: Metrics
    baselines: dict[str, Metrics]
    methods: dict[str, Metrics]
    intervals: dict[str, dict[str, dict[str, Any]]]
    comparisons: dict[str, dict[str, dict[str, Any]]]
    missing: dict[str, str]
    heads: list[dict[str, Any]]
    truth: Metrics = field(default_factory=dict)
    identities: dict[str, Any] = field(default_factory=dict)

    @property
    def others(self) -> dict[str, Metrics]:
        """Baselines and methods."""
        return {**self.baselines, **self.methods}


def weights_fingerprint(params: EvaluateParams, embed: EmbedParams) -> str:
    """Fingerprint of all networks that score, by content, so a file that is added later changes the key."""
    try:
        detector = detector_path(embed)
    except ConfigError:  # then identities are not measured, which is no failure of the evaluation
        detector = None
    files = {
        "lpips": params.lpips_weights and Path(params.lpips_weights),
        "inception": params.inception_weights and Path(params.inception_weights),
        "detector": detector,
    }
    found = {name: fingerprint(path) if path and path.is_file() else "absent" for name, path in files.items()}
    parts = {"recognition": fingerprint(recognition_path(embed.recognition)), **found}
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def method_fingerprint(name: str, folder: str) -> str:
    """Fingerprint of the pictures of a method. Raises ConfigError without the folder."""
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(
            f"evaluate.predictions.{name}: expected a folder of pictures, found none at {folder}; "
            "'spinmeround evaluate-inputs' lists the files that it needs"
        )
    return fingerprint(path)


def key_parts(
    digest: str, training: Mapping[str, str], params: EvaluateParams, embed: EmbedParams
) -> tuple[dict[str, Any], dict[str, str], str]:
    """Parameters, input keys and fingerprint of the weights, as they enter the key of an evaluation.

    `training` is the key of the training by its stage. Files and folders enter by content, not by path.
    """
    own = params.model_dump(mode="json", exclude={"lpips_weights", "inception_weights", "predictions"})
    methods = {name: method_fingerprint(name, folder) for name, folder in params.predictions.items()}
    faces = embed.model_dump(mode="json", exclude={"recognition", "pack"})
    content = {**own, "predictions": methods, "embed": faces}
    return content, {"dataset": digest, **training}, weights_fingerprint(params, embed)


def evaluation_key(digest: str, training: Mapping[str, str], params: EvaluateParams, embed: EmbedParams) -> str:
    """Content address of the evaluation of a training (stage -> key) on the dataset with this digest."""
    return artifact_key("evaluate", VERSION, *key_parts(digest, training, params, embed))


def load_evaluation(folder: Path) -> EvaluationResult:
    """Reads the result of an evaluation from its artifact's folder."""
    return EvaluationResult(**json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))
