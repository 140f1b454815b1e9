"""Configuration, key and result of an evaluation. Imports no networks, so a cached result is found without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from spinmeround.models.diffusion.params import NoiseSchedule, SolverParams
from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG
from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.embed import EmbedParams, recognition_path
from spinmeround.tasks.stage import StageParams

VERSION = 1
Metrics = dict[str, float | None]


class EvaluateParams(StageParams):
    """Views that the evaluation generates, and the sampling settings."""

    heads: int = Field(8, ge=1, description="Number of held-out heads; all if the dataset has fewer")
    conditioning_views: Literal[0, 1, 3] = Field(1, description="Conditioning views of each head")
    facing_deg: float = Field(
        FACE_VISIBLE_DEG,
        ge=0.0,
        le=180.0,
        description="Largest |azimuth| of the first conditioning view",
    )
    targets: int = Field(7, ge=1, description="Generated views of each head")
    frontal_targets: int = Field(2, ge=0, description="Number of targets that show the face from the front")
    identity: Literal["view", "mean"] = Field(
        "view", description="Embedding that conditions the model: of the first conditioning view, or of the head"
    )
    guidance_scale: float | None = Field(None, ge=0.0, description="Default: 3, or 3.5 without conditioning views")
    schedule: NoiseSchedule = NoiseSchedule()
    solver: SolverParams = SolverParams()
    seed: int = Field(0, ge=0, description="Seed of the choice of views and of the sampling")
    lpips_weights: str | None = Field(None, description="File of torchvision's AlexNet weights, for LPIPS")


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Metrics by name for the model and for each baseline; `missing` gives the reason for each metric that is None."""

    model: Metrics
    baselines: dict[str, Metrics]
    missing: dict[str, str]
    heads: list[dict[str, Any]]


def key_parts(
    digest: str, training: Mapping[str, str], params: EvaluateParams, embed: EmbedParams
) -> tuple[dict[str, Any], dict[str, str], str]:
    """Parameters, input keys and fingerprint of the weights, as they enter the key of an evaluation.

    `training` is the key of the training by its stage. The content of the LPIPS weights enters the key, not their path,
    so a file that is added later changes the key.
    """
    inputs = {"dataset": digest, **training}
    lpips = Path(params.lpips_weights) if params.lpips_weights else None
    found = fingerprint(lpips) if lpips and lpips.is_file() else "absent"
    weights = f"recognition {fingerprint(recognition_path(embed.recognition))}, lpips {found}"
    return params.model_dump(mode="json", exclude={"lpips_weights"}), inputs, weights


def evaluation_key(digest: str, training: Mapping[str, str], params: EvaluateParams, embed: EmbedParams) -> str:
    """Content address of the evaluation of a training (stage -> key) on the dataset with this digest."""
    return artifact_key("evaluate", VERSION, *key_parts(digest, training, params, embed))


def load_evaluation(folder: Path) -> EvaluationResult:
    """Reads the result of an evaluation from its artifact's folder."""
    return EvaluationResult(**json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))
