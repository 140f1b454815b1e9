"""Starts the task runs of shards, with Prefect's own task runners: threads of this process, or Dask.

A task run waits for those that it depends on before it takes a worker. Task runs of stages on a GPU and of the others
queue apart, so neither holds up the other.
"""

import logging
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Protocol

from prefect.futures import PrefectFuture, PrefectWrappedFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from spinmeround.flows.profile.sections import ExecutionParams
from spinmeround.flows.run.workers import WorkerPool
from spinmeround.storage.errors import EnvironmentUnavailable, one_line
from spinmeround.storage.extras import optional_dependency
from spinmeround.tasks.gpus import ORDER, PCI_ORDER, VISIBLE, visible_gpus

_THREADS_PER_WORKER = 2
"""While one thread waits for the heads that another build makes, another one has the worker."""
_CONNECT_S, _WORKERS_S = 10.0, 60.0
"""Limits of the time until a scheduler answers and has a worker, whose resources tell which shards it takes."""
_CPU, _GPU = "CPU", "GPU"
"""Resources of a Dask worker, which runs one shard at a time for each that it declares."""


class Engine(Protocol):
    """Starts task runs of the active flow."""

    elsewhere: bool
    """Whether task runs have no session, so that their counts come with their results."""
    gpus: bool
    """Whether some workers have a GPU."""

    def submit(
        self, task: Task[..., Any], parameters: dict[str, Any], *, gpu: bool, after: Sequence[PrefectFuture[Any]]
    ) -> PrefectFuture[Any]:
        """Start a task run once those before it have ended; `gpu` tells whether its worker has a GPU."""

    def cancel(self, runs: Sequence[PrefectFuture[Any]]) -> None:
        """Let those of these task runs that have not begun never begin, as far as the engine can."""


class Processes:
    """Task runs in threads of this process, which call the workers of the session's pool."""

    elsewhere = False

    def __init__(self, runners: dict[bool, ThreadPoolTaskRunner[Any]], *, gpus: bool) -> None:
        self._runners, self.gpus = runners, gpus

    def submit(
        self, task: Task[..., Any], parameters: dict[str, Any], *, gpu: bool, after: Sequence[PrefectFuture[Any]]
    ) -> PrefectFuture[Any]:
        return self._runners[gpu].submit(task, parameters, wait_for=after)

    def cancel(self, runs: Sequence[PrefectFuture[Any]]) -> None:
        """The session that has stopped ends them when they begin."""


class Dask:
    """Task runs on the workers of a Dask cluster, by the resources CPU and GPU that these declare.

    Task runs of other runners are not waited for: they have ended before.
    """

    elsewhere = True

    def __init__(self, runner: TaskRunner[Any], *, declared: set[str]) -> None:
        self._runner, self._declared, self.gpus = runner, declared, _GPU in declared
        self._started: set[Any] = set()

    def submit(
        self, task: Task[..., Any], parameters: dict[str, Any], *, gpu: bool, after: Sequence[PrefectFuture[Any]]
    ) -> PrefectFuture[Any]:
        from dask.base import annotate

        name = _GPU if gpu else _CPU
        before = [run for run in after if run.task_run_id in self._started]
        with annotate(resources={name: 1}) if name in self._declared else nullcontext():
            future: PrefectFuture[Any] = self._runner.submit(task, parameters, wait_for=before)
        self._started.add(future.task_run_id)
        return future

    def cancel(self, runs: Sequence[PrefectFuture[Any]]) -> None:
        for run in runs:
            if isinstance(run, PrefectWrappedFuture):
                run.wrapped_future.cancel()


@contextmanager
def open_engine(execution: ExecutionParams, pool: WorkerPool) -> Iterator[Engine]:
    """The engine of a session with this pool, for the duration of the block.

    Raises:
        MissingDependency: Dask is not installed.
        EnvironmentUnavailable: no scheduler answers at `execution.address`.
    """
    with ExitStack() as opened:
        if execution.engine == "processes":
            yield _processes(pool, opened)
        else:
            yield _dask(execution, pool, opened)


def _processes(pool: WorkerPool, opened: ExitStack) -> Engine:
    def runner(*, gpu: bool) -> ThreadPoolTaskRunner[Any]:
        threads = max(1, _THREADS_PER_WORKER * pool.size(gpu=gpu))
        return opened.enter_context(ThreadPoolTaskRunner(max_workers=threads))

    return Processes({gpu: runner(gpu=gpu) for gpu in (False, True)}, gpus=pool.size(gpu=True) > 0)


def _dask(execution: ExecutionParams, pool: WorkerPool, opened: ExitStack) -> Engine:
    with optional_dependency("execution.engine = dask"):
        from distributed import Nanny, Scheduler, SpecCluster
        from prefect_dask.task_runners import DaskTaskRunner

    def worker(resource: str, gpu: str) -> dict[str, Any]:
        options = {
            "nthreads": 1,
            "resources": {resource: 1},
            "env": {VISIBLE: gpu, ORDER: PCI_ORDER},
            "silence_logs": logging.ERROR,
        }
        return {"cls": Nanny, "options": options}

    if execution.address:
        runner = DaskTaskRunner(address=execution.address, client_kwargs={"timeout": _CONNECT_S})
    else:
        on_gpus = [worker(_GPU, gpu) for gpu in _gpus(execution) for _ in range(execution.workers_per_gpu)]
        workers = [*(worker(_CPU, "") for _ in range(pool.size())), *on_gpus]
        scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
        cluster = {"workers": dict(enumerate(workers)), "scheduler": scheduler, "silence_logs": logging.ERROR}
        runner = DaskTaskRunner(cluster_class=SpecCluster, cluster_kwargs=cluster)
    with _connecting(execution):
        opened.enter_context(runner)
        runner.client.wait_for_workers(1, timeout=_WORKERS_S)
        found = runner.client.scheduler_info(n_workers=-1)["workers"].values()
    return Dask(runner, declared={name for each in found for name in each.get("resources") or {}})


def _gpus(execution: ExecutionParams) -> tuple[str, ...]:
    return execution.chosen_gpus(visible_gpus())


@contextmanager
def _connecting(execution: ExecutionParams) -> Iterator[None]:
    """Name the address in the error if no scheduler answers there, or say that no cluster starts."""
    where = f"scheduler answers at {execution.address}" if execution.address else "cluster starts on this machine"
    advice = "start it, or leave the address out for a cluster of this machine" if execution.address else "see the log"
    try:
        found = re.fullmatch(r"(?:\w+://)?\[?([^/]+?)\]?:(\d+)/?", execution.address)
        if found:  # at once, before the client tries for some time
            socket.create_connection((found[1], int(found[2])), timeout=_CONNECT_S).close()
        yield
    except Exception as error:
        raise EnvironmentUnavailable(
            f"execution.{'address' if execution.address else 'engine'}: no Dask {where} ({one_line(error)}); {advice}"
        ) from error
