"""The parameters of a calibration."""

from pydantic import Field, ValidationError, model_validator

from spinmeround.storage.errors import ConfigError, validation_message
from spinmeround.tasks.stage import StageParams


class CalibrateParams(StageParams):
    """The target of a calibration and the source of its labels."""

    labels: str = Field("truth", description="'truth', if the generator knows its defects, or a decisions file")
    keep: float | None = Field(None, gt=0.0, le=1.0, description="Minimum share of clean heads to keep")
    recall: float | None = Field(None, gt=0.0, le=1.0, description="Minimum share of defective heads to drop")
    folds: int = Field(5, ge=2, le=50, description="Folds of the cross-validation")

    @model_validator(mode="after")
    def _one_target(self) -> "CalibrateParams":
        if (self.keep is None) == (self.recall is None):
            raise ValueError("keep, recall: expected exactly one of them")
        return self


def calibrate_params(labels: str, *, keep: float | None, recall: float | None) -> CalibrateParams:
    """The parameters from options of the command line. Raises ConfigError that names the invalid option."""
    if keep is not None and recall is not None:
        raise ConfigError(f"--keep {keep:g} --recall {recall:g}: expected one of them, got both")
    try:
        return CalibrateParams(labels=labels, keep=keep, recall=recall)
    except ValidationError as error:
        raise ConfigError(f"--{validation_message(error)}") from error
