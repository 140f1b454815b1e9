"""Worker processes, in which all computation runs, one call at a time each.

A worker is a spawned Python process with one thread for BLAS, OpenMP and torch, so that one worker per core does not
oversubscribe the machine. It lives as long as the run, so each library is imported once. If it dies, by a signal or
because it is killed at its time limit, the parent raises an exception and starts another worker for the next call. It
watches the parent's sentinel and exits with the parent, even if that is killed by SIGKILL.
"""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

from spinmeround.flows.run.worker_logs import LogLine, collect_logs, sending
from spinmeround.storage import errors
from spinmeround.tasks.gpus import ORDER, PCI_ORDER, VISIBLE
from spinmeround.tasks.quiet_libraries import silence_libraries

_SPAWN = multiprocessing.get_context("spawn")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_EXIT_TIMEOUT_S = 5.0
"""Time that a process gets to exit before it is killed."""


class WorkerLost(Exception):
    """A worker ended or was killed before it answered."""


class WorkerDied(WorkerLost):
    """A worker's process exited, or was killed by another process; `exitcode` is as that of a process, if known."""

    def __init__(self, message: str, exitcode: int | None = None) -> None:
        super().__init__(message)
        self.exitcode = exitcode


class WorkerTimeout(WorkerLost):
    """A worker exceeded its time limit and was killed."""


class CallFailed(Exception):
    """A call raised an exception in its worker; the message starts with the name of the exception."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.add_note(f"In the worker:\n{traceback}")


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An exception of a worker as plain values, because not every exception can be pickled."""

    kind: str
    message: str
    traceback: str

    def exception(self) -> Exception:
        """The original exception if it is a SpinMeRoundError, otherwise a `CallFailed`."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, errors.SpinMeRoundError):
            return kind(self.message)
        return CallFailed(f"{self.kind}: {self.message}" if self.message else self.kind, self.traceback)


class Worker:
    """One worker process, started by the first call and again after it was lost.

    `threads` limits the threads of BLAS, OpenMP and torch. A busy worker that is closed is sent SIGTERM and has
    `grace_s` to answer before it is killed. `forks` lets it start processes of its own, such as those that read the
    batches of a training. `gpus` are all that it sees, as CUDA_VISIBLE_DEVICES names them, by default those of this
    process. Only one thread may call at a time.
    """

    def __init__(self, *, threads: int = 1, grace_s: float = 0.0, forks: bool = False, gpus: str | None = None) -> None:
        self._threads, self._grace_s, self._forks, self._gpus = threads, grace_s, forks, gpus
        self._answered = threading.Event()
        self._closed = self._busy = False
        self._killing = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        timeout_s: float | None = None,
        report: Callable[[Any], None] | None = None,
    ) -> Any:
        """Run `function(*args)` in the worker; function and arguments must be picklable and importable there.

        With `report`, the function gets a callable as its last argument; `report` is called with what it passes.

        Raises:
            WorkerDied: the process ended before it answered.
            WorkerTimeout: the process sent no answer and no report for `timeout_s` and was killed.
            SpinMeRoundError: the function raised it; the class is kept.
            DeviceUnavailable: a GPU is missing or fails, or memory ran out.
            CallFailed: the function raised any other exception.
        """
        process, pipe = self._start()
        self._answered.clear()
        self._busy = True
        try:
            pipe.send((function, args, report is not None))
            answer = self._answer(process, pipe, timeout_s, report)
        except (EOFError, OSError) as error:
            raise self._lost(WorkerDied, None) from error
        except BaseException:
            self.kill()
            raise
        finally:
            self._busy = False
            self._answered.set()
        if isinstance(answer, Raised):
            raise answer.exception()
        return answer

    def _answer(
        self,
        process: multiprocessing.process.BaseProcess,
        pipe: Connection,
        timeout_s: float | None,
        report: Callable[[Any], None] | None,
    ) -> Any:
        heard = monotonic()
        while True:
            left = None if timeout_s is None else max(0.0, heard + timeout_s - monotonic())
            ready = wait([pipe, process.sentinel], left)
            if not ready:
                raise self._lost(WorkerTimeout, timeout_s)
            if pipe not in ready:
                raise self._lost(WorkerDied, None)
            done, value = pipe.recv()
            if done:
                return value
            if isinstance(value, LogLine):  # a call that hangs may log
                value.show()
                continue
            heard = monotonic()
            if report is not None:
                report(value)

    def _lost(self, kind: type[WorkerLost], timeout_s: float | None) -> WorkerLost:
        process = self._process
        if kind is WorkerTimeout:
            self.kill()
            return WorkerTimeout(f"timed out after {timeout_s:g} s")
        code = None
        if process is not None:
            process.join(_EXIT_TIMEOUT_S)
            code = process.exitcode
        self.kill()
        return WorkerDied(f"worker died {_reason(code)}", code)

    def _start(self) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        if self._process is not None and self._pipe is not None and self._process.is_alive():
            return self._process, self._pipe
        if self._closed:
            raise WorkerDied("worker died: the run has ended")
        self.kill()
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_serve,
            args=(theirs, self._threads, self._gpus),
            name="spinmeround-worker",
            daemon=not self._forks,
        )
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours
        return process, ours

    def kill(self) -> None:
        """Kill the process; the next call starts another."""
        with self._killing:  # the thread that closes the pool and the one whose call has ended may both end it
            if self._process is not None:
                self._process.kill()
                self._process.join()
            if self._pipe is not None:
                self._pipe.close()
            self._process = self._pipe = None

    def close(self) -> None:
        """End the process for good: an idle one exits normally, a busy one is killed, after its time to answer."""
        self._closed, process = True, self._process
        if self._busy and self._grace_s and process is not None:
            process.terminate()
            self._answered.wait(self._grace_s)
        with self._killing:
            if self._process is not None and self._pipe is not None and not self._busy:
                self._pipe.close()
                self._process.join(_EXIT_TIMEOUT_S)
        self.kill()


class WorkerPool:
    """Workers that the threads of a run check out, one each. They keep running between checkouts.

    There are `size` workers on the CPU, and `per_gpu` for each of `gpus`, as CUDA_VISIBLE_DEVICES names them, which see
    this one alone. With `hide_gpus` those on the CPU see none, else what this process sees.
    """

    def __init__(self, size: int, *, gpus: Sequence[str] = (), per_gpu: int = 1, hide_gpus: bool = False) -> None:
        on_cpu = [Worker(gpus="" if hide_gpus else None) for _ in range(size)]
        on_gpu = [Worker(gpus=gpu) for _ in range(per_gpu) for gpu in gpus]
        self._workers, self._sizes = [*on_cpu, *on_gpu], {False: len(on_cpu), True: len(on_gpu)}
        self._idle = {False: _stack(on_cpu), True: _stack(on_gpu)}

    def size(self, *, gpu: bool = False) -> int:
        """Number of workers that have a GPU, or that have none."""
        return self._sizes[gpu]

    @contextmanager
    def checkout(self, *, gpu: bool = False) -> Iterator[Worker]:
        """A worker for the duration of the block, with a GPU or without; waits until one is idle."""
        worker = self._idle[gpu].get()
        try:
            yield worker
        finally:
            self._idle[gpu].put(worker)

    @contextmanager
    def dedicated(self, *, threads: int, grace_s: float = 0.0) -> Iterator[Worker]:
        """An additional worker with these threads and this time to end, for the duration of the block.

        It may need the memory of the GPUs, so idle workers that have one end; their next calls start them again.
        """
        self._end_idle_on_gpus()
        worker = Worker(threads=threads, grace_s=grace_s, forks=True)
        self._workers.append(worker)
        try:
            yield worker
        finally:
            self._workers.remove(worker)
            worker.close()

    def _end_idle_on_gpus(self) -> None:
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle[True].get_nowait())
        for worker in reversed(idle):
            worker.kill()
            self._idle[True].put(worker)

    def close(self) -> None:
        """End all workers, busy or not."""
        for worker in list(self._workers):
            worker.close()


def _stack(workers: Sequence[Worker]) -> "queue.LifoQueue[Worker]":
    """Idle workers, the first on top: the one that was used last comes next, with what it has loaded."""
    found: queue.LifoQueue[Worker] = queue.LifoQueue()
    for worker in reversed(workers):
        found.put(worker)
    return found


def _reason(exitcode: int | None) -> str:
    if exitcode is None:
        return "for an unknown reason"
    if exitcode < 0:
        with suppress(ValueError):
            return f"with signal {-exitcode} ({signal.Signals(-exitcode).name})"
    return f"with exit status {exitcode}"


def _serve(pipe: Connection, threads: int, gpus: str | None) -> None:
    """Main loop of the worker: answer calls until the pipe closes."""
    if gpus is not None:
        os.environ[VISIBLE] = gpus
        os.environ.setdefault(ORDER, PCI_ORDER)
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    silence_libraries()
    collect_logs()
    # its own processes are forked, and with fork tqdm's semaphore has no name that would outlive a killed worker
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    one_at_a_time = threading.RLock()  # a finaliser may log while a line is sent

    def report(value: Any) -> None:
        with one_at_a_time:  # other threads of the call may log
            pipe.send((False, value))

    while True:
        try:
            function, args, reports = pipe.recv()
        except (EOFError, OSError):
            return
        except Exception as error:
            pipe.send((True, _raised(error)))
            continue
        answer: Any
        with sending(report):
            answer = attempt(function, *args, *([report] if reports else []))
        pipe.send((True, answer))


def attempt(function: Callable[..., Any], *args: Any) -> Any:
    """The value of `function(*args)`, or its exception as a `Raised`."""
    try:
        return function(*args)
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> Raised:
    """The exception as plain values; a failure of a GPU or of memory becomes a DeviceUnavailable here."""
    told = errors.device_failure(error) or error
    kind = next((base.__name__ for base in type(told).__mro__ if base.__module__ == errors.__name__), None)
    return Raised(kind=kind or type(told).__name__, message=str(told), traceback=traceback.format_exc())


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
