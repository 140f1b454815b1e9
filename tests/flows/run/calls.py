"""Functions that the tests call in workers, which import this module by name."""

import importlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spinmeround.storage.errors import CorruptArtifact


def import_modules(*names: str) -> None:
    for name in names:
        importlib.import_module(name)


def log_lines() -> None:
    """A line of this package, two of a library, an exception, and a warning, from two threads."""
    logging.getLogger("spinmeround.test").info("one %s", "line")
    logging.getLogger("library").info("not sent")
    thread = threading.Thread(target=logging.getLogger("library").warning, args=("a %d-nd", 2))
    thread.start()
    thread.join()
    try:
        raise RuntimeError("no nose")
    except RuntimeError:
        logging.getLogger("library").exception("failed")
    warnings.warn("old weights", stacklevel=1)


def hang_and_log() -> None:
    """A call that tries something again and again, and says so."""
    for _ in range(600):
        logging.getLogger("library").warning("retrying")
        time.sleep(0.1)


def log_in_forked_children() -> list[int]:
    """Children that a call forks log long lines at once; returns their exit codes."""
    context = multiprocessing.get_context("fork")
    log = logging.getLogger("library").warning
    children = [context.Process(target=log, args=("x" * 200_000,)) for _ in range(4)]
    for child in children:
        child.start()
    log("of the parent")
    for child in children:
        child.join()
    return [child.exitcode or 0 for child in children]


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


def fail_with_project_error(message: str) -> None:
    raise CorruptArtifact(message)


def exhaust_memory() -> None:
    np.empty(10**15)


def load_broken_network() -> None:
    """onnxruntime's exception as the cause of one of ours."""
    try:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    except RuntimeError as error:
        raise ValueError("ArcFace network: onnxruntime cannot load it") from error


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("not picklable")
        self.lock = threading.Lock()


def fail_unpicklably() -> None:
    raise Unpicklable


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def exit_with(status: int) -> None:
    os._exit(status)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def write_id_and_sleep(file: str, seconds: float) -> None:
    Path(file).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(seconds)


def count(steps: int, report: Callable[[int], None]) -> str:
    for step in range(steps):
        report(step)
    return "done"


def report_every(seconds: float, times: int, report: Callable[[int], None]) -> None:
    """Reports so many times, then hangs."""
    for number in range(times):
        time.sleep(seconds)
        report(number)
    time.sleep(3600)


def orphan_maker(file: str) -> None:
    """A parent with a busy worker that writes its process id to the file; run as a script."""
    from spinmeround.flows.run.workers import Worker

    Worker().call(write_id_and_sleep, file, 600.0)


if __name__ == "__main__":
    orphan_maker(sys.argv[1])


def start_orphan_maker(file: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.flows.run.calls", str(file)], cwd=Path(__file__).parents[3])


SIGKILL, SIGSEGV = signal.SIGKILL, signal.SIGSEGV


def double_in_a_process(value: int) -> int:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(double, (value,))


def save_when_terminated(file: Path, report: Callable[[str], None]) -> str:
    """Wait for SIGTERM, then write a file and answer."""
    received = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: received.set())
    report("waiting")
    received.wait()
    time.sleep(0.3)
    file.write_text("saved", encoding="utf-8")
    return "ended"
