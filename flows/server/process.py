"""The Prefect server of a command: the user's, the one of `spinmeround serve`, or a server process of its own.

Nothing here imports Prefect, so that the command's own server starts while Prefect is imported. The server process
exits with the command: it watches its standard input, which the kernel closes when the command exits or is killed.
Its database is in the folder of runs, so a later `spinmeround serve` shows the runs.
"""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING

from filelock import Timeout

from spinmeround.flows.run.outcome import PAGES_ROOT
from spinmeround.flows.server.environment import bypass_proxies, check_environment, without_password
from spinmeround.flows.server.network import check_server
from spinmeround.storage.errors import ConfigError, SpinMeRoundError, environment_errors, one_line, shortened
from spinmeround.storage.files import flocked, make_folder, write_atomic

if TYPE_CHECKING:
    from fastapi import FastAPI

STARTUP_S = 180
"""Time limit for the start of a server, in seconds."""
RESTARTS, PAUSE_S = 5, 0.5
"""Failed starts in a row after which a server that has ended stays so, and the time before each, in seconds."""
BUSY_S = 30
"""How long a server that accepts connections may fail to answer before it counts as gone, in seconds."""
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_S),
    # recorded one by one, a burst of task runs overflows the server's event queue and is lost
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # on a busy machine SQLite's lock is held for seconds, and the server answers 503
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    # after 2, 4, 8, ... seconds: long enough for a server that is started again, short enough for one that is gone
    "PREFECT_CLIENT_MAX_RETRIES": "5",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
LOOPBACK = "127.0.0.1"
_HEADLESS = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_UI_ENABLED": "0"}
_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
_DATABASE = ("PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_")
"""Begins of the variables that name the server's database, by its URL or in parts."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of this machine, which no proxy can reach."""


def configure(runs: Path, *, quiet: bool) -> Path:
    """Set Prefect's environment variables that the user has not set; returns its home. Call before importing Prefect.

    With `quiet` its log goes to the UI only, not to the terminal. Requests to this machine bypass proxies from then on.
    """
    bypass_proxies()
    home = Path(os.environ.setdefault("PREFECT_HOME", str(runs.absolute() / ".prefect")))
    for name, value in {**SETTINGS, **(_QUIET if quiet else {})}.items():
        os.environ.setdefault(name, value)
    with environment_errors(home):
        make_folder(home)
    return home


def authenticate() -> None:
    """Let this process's clients sign in to its own server: with the server's password, unless one of theirs is set."""
    if own := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", own)


def api_of(port: int, host: str = LOOPBACK) -> str:
    """The API of a server of this machine that listens on this address, for clients of this machine."""
    reached = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{port}/api"


class ServerProcess:
    """A server process of this command, started by the constructor. `wait` returns when it is ready.

    From then on it is started again on the same port and database whenever it ends, up to RESTARTS times in a row that
    fail. Without `pages` it has neither the UI nor the services that schedule runs; with it, it has both, and serves
    the pages of the runs in that folder. A server that can't be started any more is reported to `on_lost`, with the
    reason. Raises ConfigError if the port is taken.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        host: str = LOOPBACK,
        pages: Path | None = None,
        on_lost: Callable[[SpinMeRoundError], None] = lambda error: None,
    ) -> None:
        if port is not None and not _is_free(port, host):
            raise ConfigError(f"--port {port}: another program uses this port; choose another port")
        self._log = home / "server.log"
        self.port = port or free_port()
        self._host, self._pages, self._on_lost = host, pages, on_lost
        self._closing, self._starts = threading.Event(), threading.Lock()
        with environment_errors(home), ExitStack() as starting:
            starting.enter_context(_exclusive_start(home))
            with self._log.open("wb") as log:
                self._process = self._started(log)
            self._starting = starting.pop_all()

    @property
    def api(self) -> str:
        return api_of(self.port, self._host)

    def wait(self) -> None:
        """Return when the server is ready; raises SpinMeRoundError if it exits or does not start in time."""
        try:
            wait_until_healthy(self.api, self._process, self._log)
        finally:
            self._starting.close()
        threading.Thread(target=self._supervise, name="server", daemon=True).start()

    def close(self) -> None:
        """Shut the server down cleanly, so that it saves the events it has received."""
        with self._starts:
            self._closing.set()
            process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(BUSY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _started(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        return _start([str(self.port), self._host, *([] if self._pages is None else [str(self._pages)])], log)

    def _supervise(self) -> None:
        failed = 0
        while True:
            self._process.wait()
            if self._closing.wait(PAUSE_S):
                return
            with self._starts:
                if self._closing.is_set():
                    return
                with suppress(OSError), self._log.open("ab") as log:
                    self._process = self._started(log)
            try:
                wait_until_healthy(self.api, self._process, self._log)
                failed = 0
            except SpinMeRoundError as error:
                failed += 1
                if failed == RESTARTS:
                    self._on_lost(error)
                    return


@contextmanager
def prefect_server(home: Path) -> Iterator[ServerProcess | None]:
    """Point PREFECT_API_URL at a server for the duration of the block.

    Yields a server process that the caller has to wait for, or None if an existing server is used. Raises
    ServerUnavailable if the user's PREFECT_API_URL names a server that does not answer, and ConfigError for another
    variable of the environment that no client can use.
    """
    named = os.environ.get("PREFECT_API_URL")
    check_environment(named)
    if named:
        check_server(named, patience_s=BUSY_S)
        yield None
        return
    authenticate()  # not before: a server of the user's must not get the password of another
    if running := running_server(home):
        os.environ["PREFECT_API_URL"] = running
        with suppress(OSError, ValueError, KeyError, TypeError):  # of an earlier version, without pages
            link_pages(Path(json.loads((home / "serving.json").read_text(encoding="utf-8"))["pages"]))
        yield None
        return
    server = ServerProcess(home)
    os.environ["PREFECT_API_URL"] = server.api
    try:
        yield server
    finally:
        server.close()


def announce(home: Path, api: str, pages: Path) -> None:
    """Publish a server's address, and the folder whose pages it serves, to the commands that use this home."""
    content = {"api": api, "pages": str(pages)}
    with environment_errors(home):
        write_atomic(home / "serving.json", json.dumps(content, allow_nan=False).encode())


def link_pages(pages: Path) -> None:
    """Let what this process shows in the UI link to the pages of a folder that the UI's server serves."""
    os.environ[PAGES_ROOT] = str(pages)


def withdraw(home: Path) -> None:
    """Remove the published address. If that fails it stays, and the next command finds that nothing answers there."""
    with suppress(OSError):
        (home / "serving.json").unlink(missing_ok=True)


def running_server(home: Path) -> str | None:
    """The API of the server that `spinmeround serve` runs on this home; None if none answers."""
    try:
        api = str(json.loads((home / "serving.json").read_text(encoding="utf-8"))["api"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return api if healthy(api, patience_s=BUSY_S) else None


def healthy(api: str, *, patience_s: float = 0.0) -> bool:
    """Whether a Prefect server answers at this address.

    Retries for `patience_s` while the server is too busy to answer, but not if nothing listens on the port.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with _DIRECT.open(f"{api}/health", timeout=2) as response:
                return bool(response.status == 200)
        except (OSError, HTTPException, ValueError) as error:
            refused = isinstance(getattr(error, "reason", None), ConnectionRefusedError)
            if refused or isinstance(error, ValueError) or time.monotonic() > deadline:
                return False
        time.sleep(0.2)


def wait_until_healthy(api: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the server answers; raises SpinMeRoundError if its process exits or it does not start in time."""
    deadline = time.monotonic() + STARTUP_S
    while not healthy(api):
        if process.poll() is not None or time.monotonic() > deadline:
            raise _not_started(log)
        time.sleep(0.1)


def _not_started(log: Path) -> SpinMeRoundError:
    """The error of a server that did not start, which names the user's database if there is one."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    cause = shortened(next(reversed(raised or lines), "no answer"), 300)
    for name, value in sorted(os.environ.items()):
        if value and name.startswith(_DATABASE) and name not in SETTINGS:
            shown = "..." if "PASSWORD" in name else without_password(value)
            return ConfigError(
                f"{name}={shown}: expected a database that the Prefect server can use, found none "
                f"({cause}); correct or unset it, or see {log}"
            )
    return SpinMeRoundError(f"the Prefect server did not start ({cause}); see {log}")


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _exclusive_start(home: Path) -> Iterator[None]:
    """Let one command at a time start a server: two that create one database at once would corrupt it."""
    lock = home / "starting.lock"
    with ExitStack() as held:
        try:
            held.enter_context(flocked(lock, timeout_s=float(STARTUP_S)))
        except Timeout as error:
            raise SpinMeRoundError(
                f"{lock}: another command has held this lock for {STARTUP_S} s to start a server; wait for that "
                "command or stop it"
            ) from error
        yield


def _is_free(port: int, host: str) -> bool:
    """Whether a server can listen there. Raises ConfigError if the address is none of this machine's."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise ConfigError(
            f"--host {host}, --port {port}: expected an address of this machine ({one_line(error)}); 127.0.0.1 is for "
            "this machine alone, 0.0.0.0 for all networks"
        ) from error


def _start(arguments: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """The process of a server: its port, its address and, if it has pages, their folder."""
    environment = {
        **({} if len(arguments) > 2 else _HEADLESS),
        "PREFECT_SERVER_UI_API_URL": "/api",  # of the server that the browser has the UI from, whatever its name
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",  # also of a quiet command: its log is a file
    }
    return subprocess.Popen(
        [sys.executable, "-m", "spinmeround.flows.server.process", *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={name: value for name, value in {**os.environ, **environment}.items() if name != "PREFECT_API_URL"},
    )


def _main(port: int, host: str = LOOPBACK, pages: str | None = None) -> None:
    """Entry point of the server process: run Prefect's application until standard input ends."""
    import signal

    import uvicorn

    def exit_with_parent() -> None:
        while os.read(0, 1):  # a buffered reader would hold a lock that Python's exit waits for
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    def application() -> "FastAPI":
        from prefect.server.api.server import create_app

        app = create_app()
        if pages is not None:
            from spinmeround.flows.server.pages import add_pages

            add_pages(app, Path(pages))
        return app

    threading.Thread(target=exit_with_parent, daemon=True).start()
    uvicorn.run(application, factory=True, host=host, port=port, log_level="error", timeout_graceful_shutdown=5)


if __name__ == "__main__":
    _main(int(sys.argv[1]), *sys.argv[2:4])
