"""Programs that show the metrics of a training while it runs: TensorBoard and Weights & Biases, by accelerate.

One that fails never ends a training.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from spinmeround.storage.errors import one_line
from spinmeround.storage.extras import optional_dependency
from spinmeround.tasks.training.params import TrainParams

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

LOGS = "logs"
"""Folder of their files, beside the checkpoints; it stays after the training."""


class Tracker:
    """A started tracker. Its first failure is a warning; it then records no more."""

    def __init__(self, name: str, tracker: "GeneralTracker") -> None:
        self._name, self._tracker, self._failed = name, tracker, False
        self._attempt(tracker.start)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Record values after a step."""
        self._attempt(lambda: self._tracker.log(dict(values), step=step))

    def log_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Record a picture after a step."""
        layout = {"dataformats": "NHWC"} if self._tracker.name == "tensorboard" else {}
        self._attempt(lambda: self._tracker.log_images({name: np.asarray(picture)[None]}, step=step, **layout))

    def finish(self) -> None:
        """End it."""
        self._attempt(self._tracker.finish)

    def _attempt(self, call: Callable[[], Any]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # of the program, whatever is wrong
            self._failed = True
            warnings.warn(f"{self._name} records no more of this training: {one_line(error)}", stacklevel=3)


def start_trackers(params: TrainParams, folder: Path, key: str, done: int) -> list[Tracker]:
    """Trackers of the training `key` that continue after `done` steps; their files are in `folder`.

    Raises MissingDependency if Weights & Biases is wanted and not installed.
    """
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    found = []
    if params.tensorboard or params.wandb:
        folder.mkdir(parents=True, exist_ok=True)
    if params.tensorboard:
        found.append(Tracker("TensorBoard", TensorBoardTracker("", str(folder), purge_step=done + 1)))
    if params.wandb:
        with optional_dependency("train.wandb"):
            importlib.import_module("wandb")
        config = params.model_dump(mode="json")
        run = WandBTracker(params.wandb, id=key[:12], resume="allow", dir=str(folder), config=config)
        found.append(Tracker("Weights & Biases", run))
    return found
