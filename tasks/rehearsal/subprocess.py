"""A call in a process of its own, whose peak memory is its own."""

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from spinmeround.storage.errors import SpinMeRoundError, one_line
from spinmeround.tasks.quiet_libraries import silence_libraries

T = TypeVar("T")


def in_own_process(what: str, function: Callable[..., T], *arguments: Any) -> tuple[T, int]:
    """What a function gives, and the peak memory of the process that called it and of those that it started.

    Raises SpinMeRoundError that begins with `what` where it raises, or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        result, problem, peak = ours.recv()
    except EOFError as error:
        raise SpinMeRoundError(f"rehearsal: {what}: its process died; is there memory enough?") from error
    finally:
        process.join()
    if problem:
        raise SpinMeRoundError(f"rehearsal: {what}: {problem}")
    return result, peak


def _call(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    silence_libraries()
    try:
        result, problem = function(*arguments), ""
    except Exception as raised:  # whatever it raises is told by the process that asked
        result, problem = None, one_line(raised)
    connection.send((result, problem, _peak_bytes()))


def _peak_bytes() -> int:
    """Peak memory of this process and of its children, where the kernel tells it."""
    # the kernel's ru_maxrss of a started process begins with its parent's memory, so it is the second choice
    own = _high_water("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return own + sum(_high_water(pid) for pid in _children("self"))


def _children(pid: str) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            yield child
            yield from _children(child)


def _high_water(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
