"""The batches of a training's steps in order, read and encoded ahead of the step that takes them."""

import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, Dataset

from spinmeround.tasks.training.data.batches import GroupBatch, StepBatches

_PER_WORKER = 2
"""Batches that a worker process reads ahead."""


class _Steps(Dataset[GroupBatch]):
    """What the files hold of each step's batch, by number of the step."""

    def __init__(self, batches: StepBatches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> GroupBatch:
        return self.batches.read_groups(self.batches.draw(step), step)


def _outlive_termination(worker: int) -> None:
    """In a worker: ignore SIGTERM, which a scheduler sends to every process of a job; the training still completes its
    step, then ends its workers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class BatchFeed:
    """The batches of the steps up to `steps`. A context, which ends its thread and processes.

    `workers` processes read the files; without any, the thread does that encodes the pictures. `ahead` batches are
    ready or in the making while a step computes; with 0 a batch is made when it is asked for.
    """

    def __init__(self, batches: StepBatches, *, steps: int, ahead: int, workers: int = 0, threads: int = 0) -> None:
        self.batches, self.steps, self.ahead, self.workers, self.threads = batches, steps, ahead, workers, threads
        self._pool: ThreadPoolExecutor | None = None
        self._coming: deque[Future[GroupBatch]] = deque()
        self._next = 0
        self._read: Iterator[GroupBatch] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def batch(self, step: int) -> GroupBatch:
        """The batch of a step; quick for the steps after the last one. Raises DatasetError for a damaged file."""
        if not self.ahead:
            return self.batches.read(step)
        if self._pool is None or step < self._next:
            self._start(step)
        while self._next < step:  # steps that are avoided
            self._take()
        return self._take()

    def _take(self) -> GroupBatch:
        self._next += 1
        found = self._coming.popleft()
        self._submit()
        return found.result()

    def _start(self, step: int) -> None:
        """Begin to make the batches of this and the next steps."""
        self._stop()
        self._next = step
        self._read = self._reader(step)
        self._pool = ThreadPoolExecutor(1, "batches", initializer=self._prepare_thread)
        self._submit()

    def _submit(self) -> None:
        while (
            self._pool is not None and len(self._coming) <= self.ahead and self._next + len(self._coming) < self.steps
        ):
            self._coming.append(self._pool.submit(self._make))

    def _make(self) -> GroupBatch:
        """In the thread: the next batch; its pictures are encoded beside the step's own work on an accelerator."""
        groups = next(self._read)
        if not torch.cuda.is_available():
            return self.batches.encoded(groups)
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            return self.batches.encoded(groups)

    def _reader(self, step: int) -> Iterator[GroupBatch]:
        """What the files hold of the batches from a step on."""
        steps = _Steps(self.batches)
        if not self.workers:
            return (steps[number] for number in range(step, self.steps))
        options: dict[str, Any] = {"num_workers": self.workers, "prefetch_factor": _PER_WORKER}
        options["worker_init_fn"] = _outlive_termination
        # forked, so that workers share what is in memory; they read files and use no device
        loader = DataLoader(
            steps,
            batch_size=None,
            sampler=range(step, self.steps),
            multiprocessing_context="fork",
            **options,
        )
        return iter(loader)

    def _prepare_thread(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._read = None, iter(())
        self._coming.clear()
