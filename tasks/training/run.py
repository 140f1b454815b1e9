"""Train: the multiview diffusion model on the latents of a published dataset.

The paper's three phases: `adapt` (one view, identity alone), `single_view` (one conditioning view) and `multi_view`
(0, 1 or 3 conditioning views). The batch, noise and dropouts of a step are functions of (seed, step), and a checkpoint
holds everything that the next step depends on, so an interrupted training ends with the same weights as one that was
not interrupted. Only heads of the split `train` are read.

A step whose loss or gradient is not finite is not taken. A training that goes wrong by the measures of `train.guard`
returns to its last checkpoint and avoids the steps that led there; the second time it stops.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from spinmeround.models.device import best_device
from spinmeround.storage.dataset import HeadDataset, check_content
from spinmeround.storage.errors import ConfigError, DatasetError, EnvironmentUnavailable, SpinMeRoundError
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint
from spinmeround.tasks.training.batches import GroupBatch, TrainingBatches
from spinmeround.tasks.training.history import LossHistory
from spinmeround.tasks.training.initial import build_initial_networks
from spinmeround.tasks.training.metrics import Meter, MetricsLog
from spinmeround.tasks.training.params import TrainingResult, TrainParams, training_inputs, training_key
from spinmeround.tasks.training.result import write_result
from spinmeround.tasks.training.saving import Resumed, TrainingCheckpoints
from spinmeround.tasks.training.state import NotFinite, Schedule, TrainingState
from spinmeround.tasks.training.step import GroupLoss, StepLosses
from spinmeround.tasks.training.validation import Validation

OnStep = Callable[[int, int, float | None], None]
"""Called after each step with the number of steps done, their total and the loss, None for a step not taken."""


class TrainingInterrupted(EnvironmentUnavailable):
    """The process was asked to end; a checkpoint of the last step is on disk."""


def run_training(
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    folder: Path,
    out: Path,
    on_step: OnStep = lambda done, steps, loss: None,
) -> TrainingResult:
    """Train from the newest intact checkpoint in `folder`, or from the start, and write the result to `out`.

    Raises DatasetError if the dataset has no latents of this autoencoder, no head to train on or a damaged file;
    ConfigError for `state_on_disk` on an accelerator and for checkpoints of another training; TrainingInterrupted on
    SIGTERM; and SpinMeRoundError, without a result, for a training that goes wrong again after it returned to its last
    checkpoint, or whose losses rose.
    """
    if params.threads:
        torch.set_num_threads(params.threads)
    data = HeadDataset.open(dataset)
    subjects = _training_subjects(data, params, encode)
    check_content(data)
    key = training_key(training_inputs(data), params, encode)
    batches = TrainingBatches(data, subjects, params, encode)
    with TrainingCheckpoints(folder, key, background=not params.state_on_disk) as checkpoints:
        validation = Validation(data, params, encode) if params.validation.every else None
        run = TrainingRun(params, batches, checkpoints, validation)
        with _termination() as terminated:
            run.train(on_step, terminated)
    return write_result(run.state.averaged(), run.history, params, encode, out, metrics=run.log.path)


class TrainingRun:
    """A training in progress: its state, the number of steps `done` and their history."""

    def __init__(
        self,
        params: TrainParams,
        batches: TrainingBatches,
        checkpoints: TrainingCheckpoints,
        validation: Validation | None = None,
    ) -> None:
        self.params, self.batches, self.checkpoints, self.validation = params, batches, checkpoints, validation
        self.log = MetricsLog(checkpoints.folder, tensorboard=params.tensorboard)
        self.meter = Meter(best_device())
        self.schedule = Schedule(params.learning_rate, params.warm_up_steps, params.steps, params.final_rate)
        self._restore()

    def _restore(self) -> None:
        """Begin at the newest checkpoint, or at the start."""
        self.state = initial_state(self.params, self.checkpoints.folder)
        self.loss = GroupLoss(self.state.networks, self.params)
        found = self.checkpoints.resume(self.state)
        self.done, self.history = found or Resumed(0, LossHistory())
        self.log.resume(self.done)
        self.meter.reset()

    def train(self, on_step: OnStep, terminated: Callable[[], bool]) -> None:
        """Take all steps that remain."""
        while self.done < self.params.steps:
            loss = self._step(self.done)
            if (failed := self.history.failure(self.done, self.params.guard)) is not None:
                self._return_to_checkpoint(failed)
                continue
            self.done += 1
            self._measure()
            on_step(self.done, self.params.steps, loss)
            ending = terminated()
            due = self.done % self.params.checkpoint_every == 0 and self.done < self.params.steps
            if ending or due:
                self.checkpoints.save(self.done, self.state, self.history)
            if ending:
                raise TrainingInterrupted(
                    f"train: expected to reach step {self.params.steps}, was asked to end after step {self.done}, of "
                    "which there is a checkpoint; run it again to continue"
                )

    def _step(self, step: int) -> float | None:
        """Take one step; returns its loss, None if it was not taken."""
        if step in self.history.avoided:
            return None
        began = time.perf_counter()
        groups = self.batches.read(step)
        self.meter.wait(time.perf_counter() - began)
        try:
            losses = self._backward(groups, step)
            norm = self.state.update(self.schedule.at(step), self.params.gradient_limit)
        except NotFinite as problem:
            self.state.clear_gradients()
            self.meter.skip()
            self.history.skip(step, f"{problem}; {_described(groups)}")
            return None
        self.meter.add(losses, norm)
        self.history.take(step, float(losses.per_half.mean()))
        return self.history.losses[-1]

    def _backward(self, groups: GroupBatch, step: int) -> StepLosses:
        """Add up the gradients of the mean loss over the groups; returns the losses. Raises NotFinite."""
        found = []
        for part in groups.parts(self.params.micro_batch or len(groups.heads)):
            losses = self.loss(part, step)
            loss = losses.per_half.mean(1).sum() / len(groups.heads)
            if not math.isfinite(value := loss.item()):
                raise NotFinite(f"expected a finite loss, found {value}")
            torch.autograd.backward(loss)
            found.append(StepLosses(losses.per_half.detach().cpu(), losses.sigma))
        return StepLosses(*(torch.cat(each) for each in zip(*found, strict=True)))

    def _measure(self) -> None:
        """Write a record where one is due, with a validation where that is due."""
        every, validate_every = self.params.record_every, self.params.validation.every
        last = self.done == self.params.steps
        validates = bool(self.validation) and validate_every and (self.done % validate_every == 0 or last)
        if not (self.done % every == 0 or last or validates):
            return
        record = self.meter.record(self.done, self.schedule.at(self.done - 1))
        if validates and self.validation is not None:
            with self.state.with_average():
                record |= self.validation(self.loss)
        self.log.write(record)
        self.meter.reset()

    def _return_to_checkpoint(self, failed: range) -> None:
        """Resume from the newest checkpoint without the failed steps. Raises SpinMeRoundError the second time."""
        history = self.history
        reason = history.skipped.get(
            failed[-1], f"the mean loss rose above {self.params.guard.spike:g} times the median"
        )
        if history.rollbacks:
            raise SpinMeRoundError(
                f"train: steps {failed[0] + 1} to {failed[-1] + 1}: {reason}. It is the second time, after a return to "
                "the last checkpoint: check the weights (spinmeround weights check) and the dataset (spinmeround "
                "dataset verify), or lower train.learning_rate"
            )
        self._restore()
        self.history = self.history.avoiding(failed)


def _described(groups: GroupBatch) -> str:
    """Heads and views of a batch."""
    rows = zip(groups.heads, groups.views.tolist(), strict=True)
    return "heads and views: " + ", ".join(f"{head} {' '.join(map(str, views))}" for head, views in rows)


@contextmanager
def _termination() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM arrived since the block began; in a thread other than the main one, never."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _training_subjects(data: HeadDataset, params: TrainParams, encode: EncodeParams) -> list[int]:
    """The heads to train on; raises if the training cannot start on this dataset."""
    attributes = data.latents_attributes()
    found, expected = str(attributes.get("autoencoder")), autoencoder_fingerprint(encode)
    if found != expected:
        raise DatasetError(
            f"{data.path}: latents: expected those of the autoencoder {expected[:12]}, found {found[:12]}; "
            "run the stage encode"
        )
    if (frame := attributes.get("normals_frame", "world")) != encode.stored_frame:
        raise DatasetError(
            f"{data.path}: latents: expected normals in the frame {encode.stored_frame!r}, found {frame!r}; run the "
            "stage encode, or set encode.normals_frame"
        )
    subjects = data.split("train")
    if not subjects:
        raise DatasetError(f"{data.path}: expected a head in the split 'train', found none; build more heads")
    if params.steps < 1:
        raise ValueError("train: expected at least one step in adapt, single_view or multi_view, got none")
    return subjects


def initial_state(params: TrainParams, folder: Path) -> TrainingState:
    """The state before the first step, on the best device."""
    device = best_device()
    if params.state_on_disk and device.type != "cpu":
        raise ConfigError(f"train.state_on_disk: expected false on {device}; a mapped file serves only the CPU")
    networks = build_initial_networks(params).to(device)
    if params.gradient_checkpointing:
        networks.unet.train().enable_gradient_checkpointing()
    return TrainingState(networks, params.weight_decay, params.ema_decay, folder if params.state_on_disk else None)
