"""A separate process for a checkout: started on the first call, restarted once if it dies, ended with this process.

The checkout's top-level modules never enter this process. `worker.py` documents the protocol.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

import numpy as np

from spinmeround.panohead_bridge.panohead import worker
from spinmeround.storage.errors import ConfigError, device_failure_in

_SCRIPT = Path(worker.__file__)
_TAIL_BYTES = 2000
_PRIVATE_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class CheckoutError(RuntimeError):
    """The checkout's code raised; the traceback of its process is in the notes."""


class CheckoutProcessLost(RuntimeError):
    """The checkout's process died or timed out, twice for the same call."""


class _Lost(Exception):
    pass


@dataclass(frozen=True)
class Answer:
    """Response to a call: JSON values and arrays."""

    values: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[bytes]
    connection: Connection
    memory_fd: int
    log: IO[bytes]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.release(self.connection, self.memory_fd, self.log)

    @staticmethod
    def release(connection: Connection, memory_fd: int, log: IO[bytes]) -> None:
        """Close what this process holds for the other one."""
        connection.close()
        log.close()
        os.close(memory_fd)


class CheckoutProcess:
    """Calls into a checkout, one at a time.

    `opening` is the first request to every new process. `timeout_s` limits the time between two messages, progress
    included. `say` gets the lines for a person: warnings, and that a process is restarted.
    """

    def __init__(
        self,
        checkout: Path,
        *,
        python: Path | None = None,
        threads: int | None = None,
        timeout_s: float = 600.0,
        opening: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._checkout, self._opening, self._say = checkout.resolve(), opening, say
        self._python, self._threads, self._timeout_s = python or Path(sys.executable), threads, timeout_s
        self._running: list[_Running] = []  # one or none; shared with the finalizer
        self._opened: Answer | None = None
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _end_all, self._running)

    def opened(self) -> Mapping[str, Any]:
        """The response to `opening`."""
        with self._lock:
            answer = self._with_restart(lambda: self._opened if self._running and self._opened else self._open())
        return answer.values

    def call(
        self,
        name: str,
        values: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Answer:
        """The response of the checkout's process.

        Raises:
            ConfigError: it refused the request.
            CheckoutError: its code raised.
            DeviceUnavailable: the GPU is missing or fails, or memory ran out.
            CheckoutProcessLost: it died or timed out, twice for this call.
        """

        def once() -> Answer:
            if not self._running:
                self._open()
            return self._request(name, values, arrays or {}, progress)

        with self._lock:
            return self._with_restart(once)

    def close(self) -> None:
        """End the process; the next call starts another."""
        _end_all(self._running)

    def _with_restart(self, request: Callable[[], Answer]) -> Answer:
        try:
            return request()
        except _Lost as lost:
            self._say(f"PanoHead's process was lost and is restarted: {lost}")
        try:
            return request()
        except _Lost as lost:
            raise CheckoutProcessLost(f"PanoHead's process was lost twice for the same call: {lost}") from lost

    def _open(self) -> Answer:
        self._running.append(self._start())
        if self._opening is None:
            self._opened = Answer({}, {})
        else:
            try:
                self._opened = self._request("open", self._opening, {}, None)
            except Exception:
                self.close()
                raise
        return self._opened

    def _start(self) -> _Running:
        ours, theirs = Pipe()
        memory_fd, log = _shared_memory(), tempfile.TemporaryFile()  # noqa: SIM115
        fds = (theirs.fileno(), memory_fd)
        command: list[str | Path] = [self._python, _SCRIPT, *map(str, fds), str(os.getpid()), self._checkout]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, env=self._environment()
            )
        except OSError as error:
            _Running.release(ours, memory_fd, log)
            raise ConfigError(f"generator.options.python: {self._python} can't be run ({error})") from error
        finally:
            theirs.close()
        return _Running(process, ours, memory_fd, log)

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE_VARIABLES}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # never write into the checkout
        if self._threads is not None:
            environment |= {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return environment

    def _request(
        self,
        name: str,
        values: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        progress: Callable[[int, int], None] | None,
    ) -> Answer:
        running = self._running[0]
        layout = worker.put_arrays(running.memory_fd, dict(arrays))
        try:
            message = json.dumps({"call": name, "values": dict(values), "arrays": layout}, allow_nan=False)
            running.connection.send_bytes(message.encode())
            reply = self._reply(running, progress)
        except (EOFError, OSError):
            raise self._lost(running, "it ended") from None
        except BaseException:
            self.close()
            raise
        return _answer(reply, running.memory_fd)

    def _reply(self, running: _Running, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        while True:
            if not wait([running.connection], self._timeout_s):
                raise self._lost(running, f"no message for {self._timeout_s:g} s (generator.options.timeout_s)")
            message: dict[str, Any] = json.loads(running.connection.recv_bytes())
            if "warning" in message:
                self._say(message["warning"])
            elif "progress" in message:
                if progress is not None:
                    progress(*message["progress"])
            else:
                return message

    def _lost(self, running: _Running, why: str) -> _Lost:
        try:
            code = running.process.wait(5.0) if why == "it ended" else None
        except subprocess.TimeoutExpired:
            code = None
        size = os.fstat(running.log.fileno()).st_size
        tail = os.pread(running.log.fileno(), _TAIL_BYTES, max(size - _TAIL_BYTES, 0)).decode(errors="replace").strip()
        self.close()
        status = "" if code is None else f" by signal {-code}" if code < 0 else f" with status {code}"
        memory = "; the system may have run out of memory" if code == -9 else ""
        return _Lost(f"{why}{status}{memory}" + (f"; its last output: {tail}" if tail else ""))


def _answer(reply: Mapping[str, Any], memory_fd: int) -> Answer:
    if "refused" in reply:
        raise ConfigError(reply["refused"])
    if "error" in reply:
        if (failure := device_failure_in(reply["error"])) is not None:
            raise failure
        error = CheckoutError(f"PanoHead's code raised {reply['error']}")
        error.add_note(f"In the checkout's process:\n{reply['traceback']}")
        raise error
    return Answer(reply["done"], worker.take_arrays(memory_fd, reply["arrays"]))


def _end_all(running: list[_Running]) -> None:
    while running:
        running.pop().end()


def _shared_memory() -> int:
    """A file descriptor of unnamed memory, freed when both processes have closed it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("panohead")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
