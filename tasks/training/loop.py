"""The loop of a training: the steps that remain, their measures and checkpoints.

A step whose loss or gradient is not finite is not taken. A training that goes wrong by the measures of `train.guard`
returns to its last checkpoint and avoids the steps that led there; the second time it stops. Losses and norms are those
of the whole batch, so that all processes take the same decisions.
"""

import math
import time
from collections.abc import Callable
from functools import partial

from spinmeround.storage.errors import ConfigError, Interrupted, SpinMeRoundError
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.data.batches import StepBatches
from spinmeround.tasks.training.data.feed import BatchFeed
from spinmeround.tasks.training.gradients import finite_gradients
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.observation.history import LossHistory
from spinmeround.tasks.training.observation.metrics import Meter, MetricsLog
from spinmeround.tasks.training.observation.samples import Samples
from spinmeround.tasks.training.observation.trackers import LOGS, start_trackers
from spinmeround.tasks.training.observation.utilisation import Utilisation
from spinmeround.tasks.training.observation.validation import Validation
from spinmeround.tasks.training.optimisation.optimiser import Schedule
from spinmeround.tasks.training.optimisation.snapshots import (
    AVERAGES,
    remove_later,
    snapshot_due,
    write_snapshot,
)
from spinmeround.tasks.training.output.checkpoints import Resumed, TrainingCheckpoints
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.parallel.sharding import whole
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.state import NotFinite, TrainingState

OnStep = Callable[[int, int, float | None], None]
"""Called after each step with the number of steps done, their total and the loss, None for a step not taken."""


class Training:
    """A training in progress: its state, the number of steps `done` and their history."""

    def __init__(
        self,
        params: TrainParams,
        processes: Processes,
        batches: StepBatches,
        checkpoints: TrainingCheckpoints,
        validation: Validation | None = None,
        build: Callable[[], Networks] | None = None,
        samples: Samples | None = None,
    ) -> None:
        self.params, self.processes, self.batches = params, processes, batches
        self.checkpoints, self.validation, self.samples = checkpoints, validation, samples
        self.build = build or partial(build_initial_networks, params)
        start = partial(start_trackers, params, checkpoints.folder / LOGS, checkpoints.key)
        self.log = MetricsLog(checkpoints.folder, start) if processes.is_first else None
        self.meter = Meter(processes.device, Utilisation(params, processes.device, processes.count))
        self.schedule = Schedule.of(params)
        self._restore()

    def run(self, on_step: OnStep, terminated: Callable[[], bool]) -> None:
        """Take all steps that remain. Raises Interrupted, after a checkpoint, once a process is terminated."""
        params = self.params
        self.feed = BatchFeed(
            self.batches, steps=params.steps, ahead=params.prefetch, workers=params.workers, threads=params.threads
        )
        try:
            with self.feed:
                self._take_steps(on_step, terminated)
        finally:
            if self.log is not None:
                self.log.finish()

    def _take_steps(self, on_step: OnStep, terminated: Callable[[], bool]) -> None:
        while self.done < self.params.steps:
            loss = self.take_step(self.done)
            if (failed := self.history.failure(self.done, self.params.guard)) is not None:
                self._return_to_checkpoint(failed)
                continue
            self.done += 1
            validation = self.measure()
            self.sample()
            on_step(self.done, self.params.steps, loss)
            ending = self.processes.any(terminated())
            self._keep(validation, ending=ending)
            if ending:
                self.checkpoints.finish()
                self.processes.wait()  # a launcher ends the others once one has ended
                raise Interrupted(
                    f"train: expected to reach step {self.params.steps}, was asked to end after step {self.done}, of "
                    "which there is a checkpoint; run it again to continue"
                )

    def take_step(self, step: int) -> float | None:
        """Take one step; returns its loss, None if it was not taken."""
        if step in self.history.avoided:
            return None
        began = time.perf_counter()
        groups = self.feed.batch(step)
        self.meter.wait(time.perf_counter() - began)
        try:
            losses, norm = finite_gradients(self.state, groups, step)
            self.state.update(self.schedule.at(step), norm)
        except NotFinite as problem:
            self.state.clear_gradients()
            self.meter.skip()
            self.history.skip(step, f"{problem}; {self.batches.described(step)}")
            return None
        self.meter.add(losses, float(norm), views=groups.latents.shape[1])
        self.history.take(step, float(losses.per_half.mean()))
        return self.history.losses[-1]

    def measure(self) -> float | None:
        """Write a record where one is due, with a validation where that is due; returns the validation loss."""
        every, validate_every = self.params.record_every, self.params.validation.every
        last = self.done == self.params.steps
        due = last or self.done % self.params.checkpoint_every == 0  # a checkpoint without would never be the best
        validates = bool(self.validation) and validate_every and (due or self.done % validate_every == 0)
        if not (self.done % every == 0 or last or validates):
            return None
        record = self.meter.record(self.done, self.schedule.at(self.done - 1))
        distance = self.state.averages.distance(self.params.average.length)
        if math.isfinite(distance):  # the checkpoint names the tensor that is not
            record["average_distance"] = distance
        if validates and self.validation is not None:
            record |= self.validation(self.state)
        if self.log is not None:
            self.log.write(record)
        self.meter.reset()
        return record.get("validation")

    def sample(self) -> None:
        """Write a contact sheet where one is due."""
        if self.samples is None or self.done % self.params.samples.every:
            return
        began = time.perf_counter()
        sheet = self.samples(self.state, self.build, self.done)
        if sheet is not None and self.log is not None:
            self.log.write_sheet(sheet, self.done)
        self.meter.leave_out(time.perf_counter() - began)

    def _keep(self, validation: float | None, *, ending: bool) -> None:
        """Collective: write the checkpoint and the snapshot of the averages that are due."""
        params, done = self.params, self.done
        if snapshot_due(done, params.steps, params.average.snapshots):
            averages = {name: whole(tensor) for name, tensor in self.state.averages.named()}
            if self.processes.is_first:
                write_snapshot(self.checkpoints.folder / AVERAGES, done, averages, self.state.averages.steps)
        if ending or done % params.checkpoint_every == 0 or done == params.steps:
            self.checkpoints.save(done, self.state, self.history, validation=validation)

    def _restore(self, *, before: int | None = None) -> None:
        """Begin at the newest checkpoint, with `before` at the newest up to that step, or at the start."""
        self.processes.release()
        folder = self.checkpoints.folder if self.params.state_on_disk else None
        self.state = TrainingState(self.build(), self.params, self.processes, disk=folder)
        self.done, self.history = self.checkpoints.resume(self.state, before=before) or Resumed(0, LossHistory())
        if self.done > self.params.steps:
            raise ConfigError(
                f"{self.checkpoints.folder}: expected a checkpoint of step {self.params.steps} or earlier, found one "
                f"of step {self.done}; train at least as many steps, or choose another folder"
            )
        if self.log is not None:
            self.log.resume(self.done)
            remove_later(self.checkpoints.folder / AVERAGES, self.done)
        self.meter.reset()

    def _return_to_checkpoint(self, failed: range) -> None:
        """Resume from the newest checkpoint before the failed steps, without them. Raises SpinMeRoundError the second
        time."""
        history = self.history
        spike = f"the mean loss rose above {self.params.guard.spike:g} times that of earlier steps"
        reason = history.skipped.get(failed[-1], spike)
        if history.rollbacks:
            raise SpinMeRoundError(
                f"train: steps {failed[0] + 1} to {failed[-1] + 1}: {reason}. It is the second time, after a return to "
                "the last checkpoint: check the weights (spinmeround weights check) and the dataset (spinmeround "
                "dataset verify), or lower train.learning_rate"
            )
        self._restore(before=failed[0])
        self.history = self.history.avoiding(failed)
