"""The parameters of a calibration."""

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from spinmeround.storage.errors import ConfigError, validation_message
from spinmeround.tasks.stage import StageParams


class CalibrateParams(StageParams):
    """What a calibration fits, its target and the source of its labels."""

    method: Literal["learned", "limits"] = Field(
        "learned", description="'learned': a verdict on all scores together; 'limits': a limit for each score"
    )
    labels: str = Field(
        "truth", description="'truth', if the generator knows its defects, or a file of labels or of decisions"
    )
    keep: float | None = Field(None, gt=0.0, le=1.0, description="Minimum share of clean heads to keep")
    recall: float | None = Field(None, gt=0.0, le=1.0, description="Minimum share of defective heads to drop")
    folds: int = Field(5, ge=2, le=50, description="Folds of the cross-validation")
    width: float = Field(
        0.05, gt=0.001, lt=1.0, description="Width of the intervals for which the missing labels are stated"
    )

    @model_validator(mode="after")
    def _one_target(self) -> "CalibrateParams":
        if (self.keep is None) == (self.recall is None):
            raise ValueError("keep, recall: expected exactly one of them")
        return self


def calibrate_params(labels: str, *, keep: float | None, recall: float | None, **others: Any) -> CalibrateParams:
    """The parameters from options of the command line. Raises ConfigError that names the invalid option."""
    if keep is not None and recall is not None:
        raise ConfigError(f"--keep {keep:g} --recall {recall:g}: expected one of them, got both")
    try:
        return CalibrateParams(labels=labels, keep=keep, recall=recall, **others)
    except ValidationError as error:
        raise ConfigError(f"--{validation_message(error)}") from error
