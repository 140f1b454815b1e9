"""Configuration, variants, key and result of an ablation. Imports no networks.

Each variant is an ordinary training that differs from the model in one parameter:

    without-image       train.conditioned_on = identity: the latents of given views are zeros, as in condition dropout
    without-identity    train.conditioned_on = image: the prompt is empty
    without-normals     train.unet.normals = false: views have image latents alone

Heads, views, cameras, noise levels, noise and dropouts of every step are those of the model, and so are the initial
weights of all layers that a variant has. Without its image, a given view keeps its place in the group: the variant sees
its camera, to which all rays are relative, and so is asked for the same views as the others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.params import MODEL, PRESETS, EvaluateParams, EvaluationResult
from spinmeround.tasks.stage import StageParams
from spinmeround.tasks.training.params import TrainParams

STAGE, VERSION = "ablate", 1

VariantName = Literal["without-image", "without-identity", "without-normals"]
VARIANTS: tuple[VariantName, ...] = get_args(VariantName)
LABELS = {
    MODEL: "model",
    "without-image": "without input image",
    "without-identity": "without identity",
    "without-normals": "without normals",
}
"""The model and its variants in words, in the order of tables."""

_CHANGES: dict[str, dict[str, Any]] = {
    MODEL: {},
    "without-image": {"conditioned_on": "identity"},
    "without-identity": {"conditioned_on": "image"},
    "without-normals": {},
}


class AblateParams(StageParams):
    """Variants of an ablation, and the views that they are compared on: the paper's by default."""

    variants: tuple[VariantName, ...] = Field(VARIANTS, description="Variants to train beside the model; at least one")
    heads: int = Field(100, ge=1, description="Number of held-out heads; all if the dataset has fewer")
    targets: int = Field(10, ge=1, description="Generated views of each head, from its most frontal view")
    figure_heads: int = Field(4, ge=1, description="Heads of the figure")
    figure_views: int = Field(3, ge=1, description="Views of each head in the figure")

    @field_validator("variants")
    @classmethod
    def _different(cls, value: tuple[VariantName, ...]) -> tuple[VariantName, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"expected one or more different variants, got {', '.join(value) or 'none'}")
        return value

    @property
    def models(self) -> tuple[str, ...]:
        """The model and the variants, in the order of tables."""
        return tuple(name for name in LABELS if name == MODEL or name in self.variants)


def variant_training(train: TrainParams, name: str) -> TrainParams:
    """The training of the model or of a variant.

    The model that ships was trained with everything that variants lack, so all begin with random weights in its place.
    Raises ConfigError for parameters of a training that is none of the model.
    """
    if train.conditioned_on != "both" or not train.unet.normals:
        field, found = ("conditioned_on", train.conditioned_on) if train.unet.normals else ("unet.normals", "false")
        raise ConfigError(f"train.{field}: expected the default for an ablation, which sets it, got {found}")
    if train.trained in ([], ["adapt"]):
        raise ConfigError("train: expected steps in single_view or multi_view, whose model generates views, got none")
    changes = dict(_CHANGES[name])
    if name == "without-normals":
        changes["unet"] = train.unet.model_copy(update={"normals": False})
    if train.initial.unet == "embedded":
        changes["initial"] = train.initial.model_copy(update={"unet": "random"})
    return train.model_copy(update=changes)


def ablation_views(evaluate: EvaluateParams, params: AblateParams) -> EvaluateParams:
    """The evaluation that compares the models; sampling and metrics are those of the profile.

    Every view is conditioned on the input alone, so that no model is given pictures that it has generated.
    """
    own = {"heads": params.heads, "targets": params.targets, "predictions": {}}
    return evaluate.model_copy(update={**PRESETS["ablation"], "split": "held-out", **own})


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """The model against a variant by one metric: the mean difference over heads with its 95% interval.

    `holds` is whether the model is better, None where the interval contains 0 or there is a single head.
    """

    metric: str
    variant: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    holds: bool | None


@dataclass(frozen=True, kw_only=True)
class AblationResult:
    """The table of an ablation, as `ablation.json` has it.

    `table` has the fields of an `EvaluationResult`, whose methods are the variants. `evaluations` are the keys of the
    evaluations by model, `steps` the steps of each.
    """

    table: dict[str, Any]
    orderings: list[dict[str, Any]]
    evaluations: dict[str, str]
    steps: dict[str, int]


def key_parts(
    evaluations: Mapping[str, str], steps: Mapping[str, int], params: AblateParams
) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and input keys, as they enter the key of an ablation."""
    content = {"figure_heads": params.figure_heads, "figure_views": params.figure_views, "steps": dict(steps)}
    return content, dict(evaluations)


def ablation_key(evaluations: Mapping[str, str], steps: Mapping[str, int], params: AblateParams) -> str:
    """Content address of the comparison of evaluations (key by model) of trainings of so many steps."""
    return artifact_key(STAGE, VERSION, *key_parts(evaluations, steps, params))


def load_ablation(folder: Path) -> AblationResult:
    """Reads the result of an ablation from its artifact's folder."""
    return AblationResult(**json.loads((folder / "ablation.json").read_text(encoding="utf-8")))


def evaluation_of(result: AblationResult) -> EvaluationResult:
    """The table as the result of an evaluation."""
    return EvaluationResult(**result.table)
