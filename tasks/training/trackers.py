"""Programs that show the metrics of a training while it runs: TensorBoard and Weights & Biases, by accelerate."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from spinmeround.storage.extras import optional_dependency
from spinmeround.tasks.training.params import TrainParams

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


def start_trackers(params: TrainParams, folder: Path, key: str, done: int) -> "list[GeneralTracker]":
    """Trackers of the training `key` that continue after `done` steps; event files of TensorBoard are in `folder`.

    Raises MissingDependency if Weights & Biases is wanted and not installed.
    """
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    found: list[GeneralTracker] = []
    if params.tensorboard:
        found.append(TensorBoardTracker("", str(folder), purge_step=done + 1))
    if params.wandb:
        with optional_dependency("train.wandb"):
            importlib.import_module("wandb")
        config = params.model_dump(mode="json")
        found.append(WandBTracker(params.wandb, id=key[:12], resume="allow", dir=str(folder), config=config))
    for tracker in found:
        tracker.start()
    return found
