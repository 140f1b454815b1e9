"""Checkpoints of a training in progress: written in the background, resumed from, removed after success.

A checkpoint names the training that it belongs to by its key, so a folder of another training is refused. It states
the sizes of its networks in `model`, so that another training can begin with it, and what the last bits of its numbers
depend on, so that a training that resumes in another way says so.
"""

import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from torch import Tensor

from spinmeround.storage.checkpoints import Checkpoint, Checkpoints
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.training.observation.history import LossHistory
from spinmeround.tasks.training.state import TrainingState


class Resumed(NamedTuple):
    """The number of steps that were done and their history."""

    done: int
    history: LossHistory


class TrainingCheckpoints:
    """The checkpoints of the training `key` in a folder. A context: at its end every checkpoint is on disk.

    In the background, a checkpoint is copied and the training goes on while the copy is written; an error of the
    writing is raised by the next call. Of several processes, the first one writes and all read.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        *,
        model: Mapping[str, Any] | None = None,
        keep: int = 2,
        keep_best: int = 0,
        background: bool = True,
    ) -> None:
        self.folder, self.key, self.model, self.background = folder, key, model, background
        self._files = Checkpoints(folder, keep, keep_best)
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

    def save(self, done: int, state: TrainingState, history: LossHistory, *, validation: float | None = None) -> None:
        """Collective: save the state after `done` steps, with the validation loss of that step if it was measured."""
        self.finish()
        if not state.processes.is_first:
            for _ in state.named():  # takes part in making the tensors whole
                pass
            return
        model = {"model": self.model, "frozen": state.networks.frozen_digest()} if self.model else {}
        about = {
            "training": self.key,
            **model,
            "execution": state.processes.execution(),
            "numbers": state.numbers(),
            **history.state(),
        }
        save = partial(self._files.save, done, state=about, validation=validation)
        if not self.background:
            save(tensors={**dict(state.named()), **history.tensors()})
            return
        copies = {name: tensor.to("cpu", copy=True) for name, tensor in state.named()}
        self._writing = self._pool.submit(save, tensors={**copies, **history.tensors()})

    def finish(self) -> None:
        """Wait until the last checkpoint is on disk; raises the error of its writing."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def resume(self, state: TrainingState, *, before: int | None = None) -> Resumed | None:
        """Collective: load the newest intact checkpoint into `state`; None if there is none.

        With `before`, load the newest up to that step, or else the oldest, and remove the later ones.

        Warns about damaged ones that are passed over, and about numbers that will differ in their last bits from those
        of an uninterrupted training. Raises SpinMeRoundError if all are damaged, ConfigError if they are of another
        training.
        """
        self.finish()
        state.processes.wait()
        found = self._newest(before, warns=state.processes.is_first)
        if found is None:
            return None
        about: Mapping[str, Any] = found.state()
        if about.get("training") != self.key:
            raise ConfigError(
                f"{self.folder}: expected checkpoints of the training {self.key[:12]}, found those of "
                f"{str(about.get('training'))[:12]}, of other parameters, data or weights; choose another folder, or "
                "delete this one"
            )
        if state.processes.is_first:
            self._warn_of_changes(found.step, about["execution"], state.processes.execution())
        tensors: dict[str, Tensor] = found.tensors()
        history = LossHistory.restored({name: tensors.pop(name) for name in ("losses", "loss_steps")}, about)
        state.load(tensors, about["numbers"], len(history.steps))
        state.processes.wait()
        if before is not None and state.processes.is_first:
            self._files.remove_later(found.step)
        return Resumed(found.step, history)

    def _newest(self, before: int | None, *, warns: bool) -> Checkpoint | None:
        """The newest intact checkpoint, up to the step `before`, or None."""
        found = self._files.latest(before=before)
        last = float("inf") if before is None or found is None else before
        newer = [step for step in self._files.steps() if found is None or found.step < step <= last]
        if found is None and newer:
            raise SpinMeRoundError(
                f"{self.folder}: expected an intact checkpoint, found {len(newer)} damaged ones; delete the folder to "
                "start again"
            )
        if newer and warns and found is not None:
            warnings.warn(
                f"{self.folder}: the checkpoints of step {', '.join(map(str, newer))} are damaged; resuming from step "
                f"{found.step}",
                stacklevel=3,
            )
        return found

    def _warn_of_changes(self, step: int, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Warn if the training does not resume as it was, so that the same bits cannot be promised."""
        changes = [f"{name} {before.get(name)} to {value}" for name, value in now.items() if before.get(name) != value]
        if changes:
            warnings.warn(
                f"{self.folder}: resuming from step {step} with other {', '.join(changes)}: the results are those of "
                "an uninterrupted training within rounding, not bit by bit",
                stacklevel=3,
            )
