"""Forked processes: they start in milliseconds, have no thread but the caller's, and end without clean-up."""

import os
import pickle
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

Result = TypeVar("Result")


def start(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; returns its id. Its exit status is 0 if `work` returned."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Exit status of the process, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def result_of(work: Callable[[], Result]) -> Result:
    """What `work` returns in a forked process. Raises ChildProcessError if it fails."""
    reader, writer = os.pipe()

    def send() -> None:
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(work(), stream)

    child = start(send)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    if status := wait(child):
        raise ChildProcessError(f"expected exit status 0, got {status}")
    result: Result = pickle.loads(data)
    return result


@contextmanager
def running(work: Callable[[], None]) -> Iterator[int]:
    """A process that runs `work`; killed at the end of the block at the latest."""
    child = start(work)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            kill(child)


def kill(child: int) -> None:
    """Kill the process with SIGKILL and wait for it."""
    os.kill(child, signal.SIGKILL)
    wait(child)


def kill_at_random(work: Callable[[], None], chance: random.Random, within_s: float) -> int:
    """Start `work`, kill it with SIGKILL at a random moment, and return its exit status."""
    child = start(work)
    time.sleep(chance.uniform(0, within_s))
    os.kill(child, signal.SIGKILL)
    return wait(child)
