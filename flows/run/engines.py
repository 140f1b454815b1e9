"""Starts the task runs of shards, with Prefect's own task runners.

A task run waits for those that it depends on before it takes a worker. Task runs of stages on a GPU and of the others
queue apart, so neither holds up the other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from spinmeround.flows.run.workers import WorkerPool

_THREADS_PER_WORKER = 2
"""While one thread waits for the heads that another build makes, another one has the worker."""


class Engine(Protocol):
    """Starts task runs of the active flow."""

    def submit(
        self, task: Task[..., Any], parameters: dict[str, Any], *, gpu: bool, after: Sequence[PrefectFuture[Any]]
    ) -> PrefectFuture[Any]:
        """Start a task run once those before it have ended; `gpu` tells whether its worker has a GPU."""


class Processes:
    """Task runs in threads of this process, which call the workers of the session's pool."""

    def __init__(self, runners: dict[bool, ThreadPoolTaskRunner[Any]]) -> None:
        self._runners = runners

    def submit(
        self, task: Task[..., Any], parameters: dict[str, Any], *, gpu: bool, after: Sequence[PrefectFuture[Any]]
    ) -> PrefectFuture[Any]:
        return self._runners[gpu].submit(task, parameters, wait_for=after)


@contextmanager
def open_engine(pool: WorkerPool) -> Iterator[Engine]:
    """The engine of a session with this pool, for the duration of the block."""
    threads = {gpu: max(1, _THREADS_PER_WORKER * pool.size(gpu=gpu)) for gpu in (False, True)}
    with (
        ThreadPoolTaskRunner[Any](max_workers=threads[False]) as on_cpu,
        ThreadPoolTaskRunner[Any](max_workers=threads[True]) as on_gpu,
    ):
        yield Processes({False: on_cpu, True: on_gpu})
