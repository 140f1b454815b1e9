"""Configuration and result of a training. Imports no networks."""

from spinmeround.tasks.training.params.result import METRICS, TrainingResult, load_training
from spinmeround.tasks.training.params.train import (
    ENCODER,
    UNET,
    GuardParams,
    InitialParams,
    Precision,
    TextEncoderParams,
    TrainParams,
    ValidationParams,
)

__all__ = [
    "ENCODER",
    "METRICS",
    "UNET",
    "GuardParams",
    "InitialParams",
    "Precision",
    "TextEncoderParams",
    "TrainParams",
    "TrainingResult",
    "ValidationParams",
    "load_training",
]
