"""Forked processes, to kill or to train together: they start in milliseconds, have no thread but the caller's, and end
without clean-up."""

import os
import pickle
import random
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

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


def together(count: int, work: Callable[[int], Any], folder: Path) -> list[Any]:
    """The results of `work(rank)` in `count` processes that a launcher of torch would have started, by rank.

    Raises AssertionError with the traceback if one of them fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in {**ranks, "MASTER_PORT": port}.items()}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        from accelerate.state import PartialState

        PartialState._reset_state()  # inherited from this process, which is alone
        try:
            result, failure = work(rank), None
        except BaseException:
            result, failure = None, traceback.format_exc()
        (folder / f"result-{rank}").write_bytes(pickle.dumps((result, failure)))

    children = [start(lambda rank=rank: run(rank)) for rank in range(count)]  # type: ignore[misc]
    assert [wait(child) for child in children] == [0] * count
    found = [pickle.loads((folder / f"result-{rank}").read_bytes()) for rank in range(count)]
    assert not any(failure for _, failure in found), "\n".join(failure or "" for _, failure in found)
    return [result for result, _ in found]
