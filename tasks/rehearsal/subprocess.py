"""Calls in a separate process, whose peak memory is measured, on the host and on GPUs."""

import multiprocessing
import os
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from spinmeround.storage.errors import SpinMeRoundError, device_failure, one_line
from spinmeround.tasks.quiet_libraries import silence_libraries

T = TypeVar("T")


_POLL_S = 0.5
"""Between looks at the GPUs. Allocators keep their peak until the process ends."""


class Peak(NamedTuple):
    """Peak memory in bytes; `device` is None without an NVIDIA GPU."""

    host: int
    device: int | None


def call_in_process(what: str, function: Callable[..., T], *arguments: Any) -> tuple[T, Peak]:
    """The function's result, and the peak memory of its process and of the children of that.

    On the GPU it is the growth of the memory in use, of the GPU where that is largest; other programs count, too.
    Raises SpinMeRoundError that names `what` if the function raises or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with _DeviceMemory() as memory:
        process = context.Process(target=_call, args=(theirs, function, arguments))
        process.start()
        theirs.close()
        try:
            result, problem, peak = ours.recv()
        except EOFError as error:
            raise SpinMeRoundError(
                f"rehearsal: {what}: its process died; check that enough memory is available"
            ) from error
        finally:
            process.join()
    if problem:
        raise SpinMeRoundError(f"rehearsal: {what}: {problem}")
    return result, Peak(peak, memory.peak)


class _DeviceMemory:
    """Looks at the memory in use on the GPUs for as long as the block takes; `peak` is its growth in bytes."""

    def __init__(self) -> None:
        self.peak: int | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._before = _used_device_memory()
        if self._before:
            self.peak = 0
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._before:
            self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_POLL_S):
            # nvidia-smi may fail once, and then lists no GPU
            grown = [now - before for now, before in zip(_used_device_memory(), self._before, strict=False)]
            self.peak = max([self.peak or 0, *grown])


def _used_device_memory() -> list[int]:
    """Bytes in use on each NVIDIA GPU of this machine; empty if there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        text = subprocess.run(asked, capture_output=True, encoding="utf-8", check=True, timeout=30).stdout
        return [int(line) * 2**20 for line in text.splitlines()]
    return []


def cpu_seconds() -> float:
    """Time that all cores have spent on this process and on its children, those that ended included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_cpu_seconds, _children("self")))


def _cpu_seconds(pid: str) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    ticks = text.rpartition(")")[2].split()[11:15]  # user and system time of the process and of its ended children
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _call(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    silence_libraries()
    try:
        result, problem = function(*arguments), ""
    except Exception as raised:  # reported by the calling process
        result, problem = None, one_line(device_failure(raised) or raised)
    connection.send((result, problem, _peak_bytes()))


def _peak_bytes() -> int:
    """Peak memory of this process and of its children."""
    # ru_maxrss of a spawned process starts at its parent's memory, so it is only the fallback
    own = _high_water("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return own + sum(_high_water(pid) for pid in _children("self"))


def _children(pid: str) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            for child in file.read_text(encoding="utf-8").split():
                yield child
                yield from _children(child)


def _high_water(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
