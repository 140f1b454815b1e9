"""The `promote` section of a profile. Enters no key: it decides about a model, not what it is."""

from typing import Literal

from pydantic import Field

from spinmeround.storage.artifacts.models import ALIAS_NAME, MODEL_NAME
from spinmeround.tasks.stage import StageParams

MetricName = Literal[
    "l2",
    "psnr",
    "ssim",
    "lpips",
    "identity_similarity",
    "normal_angular_error_deg",
    "consistency",
    "mask_iou",
    "fid",
    "kid",
]
"""The metrics of `models.metrics.definitions`, whose package imports what a profile must not."""


class PromoteParams(StageParams):
    """The name of the model, the alias that a better one gets, and what counts as better."""

    model: str = Field("spinmeround", pattern=MODEL_NAME, description="Name of the model in the store's registry")
    alias: str = Field("production", pattern=ALIAS_NAME, description="Alias that points to the promoted version")
    metric: MetricName = Field("psnr", description="Metric of the evaluation that decides")
    margin: float = Field(
        0.0, ge=0.0, description="Least improvement of the metric, in its unit; 0: any improvement counts"
    )
    largest_p_value: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Largest p-value of the paired test over heads of a better model; 1: the test does not decide",
    )
    approval: bool = Field(False, description="Wait until a person approves of a better model")
    approval_timeout_s: int = Field(604_800, ge=1, description="Time limit of the approval, in seconds")
