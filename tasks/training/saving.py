"""Checkpoints of a training in progress: written in the background, resumed from, removed after success.

A checkpoint names the training that it belongs to by its key, so a folder of another training is refused. It states
the sizes of its networks in `model`, so that another training can begin with it.
"""

import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from torch import Tensor

from spinmeround.storage.checkpoints import Checkpoint, Checkpoints
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.training.history import LossHistory
from spinmeround.tasks.training.state import TrainingState


class Resumed(NamedTuple):
    """The number of steps that were done and their history."""

    done: int
    history: LossHistory


class TrainingCheckpoints:
    """The checkpoints of the training `key` in a folder. A context: at its end every checkpoint is on disk.

    In the background, a checkpoint is copied and the training goes on while the copy is written; an error of the
    writing is raised by the next call.
    """

    def __init__(
        self, folder: Path, key: str, *, background: bool = True, model: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.key, self.background, self.model = folder, key, background, model
        self._files = Checkpoints(folder)
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Checkpoint] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except SpinMeRoundError:
            if error is None:  # an error of the training itself comes first
                raise
        finally:
            self._pool.shutdown()

    def save(self, done: int, state: TrainingState, history: LossHistory) -> None:
        """Save the state after `done` steps."""
        self.finish()
        tensors = {**state.tensors(), **history.tensors()}
        frozen = {"model": self.model, "frozen": state.networks.frozen_digest()} if self.model else {}
        about = {"training": self.key, **frozen, **history.state()}
        if not self.background:
            self._files.save(done, tensors, about)
            return
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self._writing = self._pool.submit(self._files.save, done, copies, about)

    def finish(self) -> None:
        """Wait until the last checkpoint is on disk; raises the error of its writing."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def resume(self, state: TrainingState) -> Resumed | None:
        """Load the newest intact checkpoint into `state`; None if there is none.

        Warns about damaged ones that are passed over. Raises SpinMeRoundError if all are damaged, ConfigError if they
        are of another training.
        """
        self.finish()
        found = self._files.latest()
        newer = [step for step in self._files.steps() if found is None or step > found.step]
        if found is None and newer:
            raise SpinMeRoundError(
                f"{self.folder}: expected an intact checkpoint, found {len(newer)} damaged ones; delete the folder to "
                "start again"
            )
        if found is None:
            return None
        if newer:
            warnings.warn(
                f"{self.folder}: the checkpoints of step {', '.join(map(str, newer))} are damaged; resuming from step "
                f"{found.step}",
                stacklevel=2,
            )
        about: Mapping[str, Any] = found.state()
        if about.get("training") != self.key:
            raise ConfigError(
                f"{self.folder}: expected checkpoints of the training {self.key[:12]}, found those of "
                f"{str(about.get('training'))[:12]}, of other parameters, data or weights; choose another folder, or "
                "delete this one"
            )
        tensors: dict[str, Tensor] = found.tensors()
        history = LossHistory.restored({name: tensors.pop(name) for name in ("losses", "loss_steps")}, about)
        state.load(tensors, len(history.steps))
        return Resumed(found.step, history)
