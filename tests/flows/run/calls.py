"""What the tests have workers do; workers import it by name."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from spinmeround.storage.errors import CorruptArtifact


def double(value: int) -> int:
    return 2 * value


def process_id() -> int:
    return os.getpid()


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def bars_disabled() -> str:
    return os.environ["TQDM_DISABLE"]


def fail(message: str) -> None:
    raise RuntimeError(message)


def fail_as_ours(message: str) -> None:
    raise CorruptArtifact(message)


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("no way back")
        self.lock = threading.Lock()


def fail_unpicklably() -> None:
    raise Unpicklable


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(status: int) -> None:
    os._exit(status)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def count(steps: int, report: Callable[[int], None]) -> str:
    for step in range(steps):
        report(step)
    return "done"


def report_every(seconds: float, times: int, report: Callable[[int], None]) -> None:
    """Then hangs."""
    for number in range(times):
        time.sleep(seconds)
        report(number)
    time.sleep(3600)


def orphan_maker(file: str) -> None:
    """A parent with a busy worker, whose process id it writes down; run as a script."""
    from spinmeround.flows.run.workers import Worker

    worker = Worker()
    Path(file).write_text(str(worker.call(process_id)))
    worker.call(sleep, 600.0)


if __name__ == "__main__":
    orphan_maker(sys.argv[1])


def start_orphan_maker(file: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.flows.run.calls", str(file)], cwd=Path(__file__).parents[3])


SIGKILL, SIGSEGV = signal.SIGKILL, signal.SIGSEGV
