"""Configuration and result of a training. Imports no networks."""

from spinmeround.tasks.training.params.result import METRICS, SAMPLES, TrainingResult, load_training
from spinmeround.tasks.training.params.train import (
    ENCODER,
    UNET,
    GuardParams,
    InitialParams,
    Precision,
    SamplesParams,
    TextEncoderParams,
    TrainParams,
    ValidationParams,
)

__all__ = [
    "ENCODER",
    "METRICS",
    "SAMPLES",
    "UNET",
    "GuardParams",
    "InitialParams",
    "Precision",
    "SamplesParams",
    "TextEncoderParams",
    "TrainParams",
    "TrainingResult",
    "ValidationParams",
    "load_training",
]
