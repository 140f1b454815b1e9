"""Calls in a separate process, whose peak memory is measured."""

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from spinmeround.storage.errors import SpinMeRoundError, device_failure, one_line
from spinmeround.tasks.quiet_libraries import silence_libraries

T = TypeVar("T")


def call_in_process(what: str, function: Callable[..., T], *arguments: Any) -> tuple[T, int]:
    """The function's result, and the peak memory in bytes of its process and of the children of that.

    Raises SpinMeRoundError that names `what` if the function raises or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        result, problem, peak = ours.recv()
    except EOFError as error:
        raise SpinMeRoundError(f"rehearsal: {what}: its process died; check that enough memory is available") from error
    finally:
        process.join()
    if problem:
        raise SpinMeRoundError(f"rehearsal: {what}: {problem}")
    return result, peak


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
        for child in file.read_text(encoding="utf-8").split():
            yield child
            yield from _children(child)


def _high_water(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
