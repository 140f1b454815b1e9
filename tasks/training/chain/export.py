"""Pipelines without training: of a checkpoint, or of the UNet in a folder, as `train.initial` names it."""

from pathlib import Path

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.initial import phase_networks
from spinmeround.tasks.training.key import VERSION, export_content, export_key, training_weights
from spinmeround.tasks.training.output.result import as_pipeline, write_untrained
from spinmeround.tasks.training.params import TrainingResult, TrainParams, load_training


def export_pipeline(
    store: ArtifactStore, params: TrainParams, encode: EncodeParams
) -> tuple[Outcome, str, TrainingResult]:
    """Make the pipeline of the networks of `train.initial` unless the store has it, as the result of no training step.

    Returns the outcome, the artifact's key and the result. Raises ConfigError for networks that a training refuses.
    """
    key = export_key(params, encode)

    def export(out: Path) -> None:
        write_untrained(phase_networks("multi-view", params), params, encode, out)

    content, weights = export_content(params, encode), training_weights(params, encode)
    outcome = store.make_once(
        "multi-view", key, export, version=VERSION, params=content, inputs={}, weights=weights, subject="model"
    )
    return outcome, key, load_training(store.verify("multi-view", key).path)


def initial_pipeline(params: TrainParams, encode: EncodeParams) -> SpinMeRoundPipeline:
    """The same pipeline in memory. Raises ConfigError as `export_pipeline`."""
    training_weights(params, encode)  # checks what the source states
    return as_pipeline(phase_networks("multi-view", params), params, encode)
