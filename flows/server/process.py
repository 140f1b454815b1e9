"""The Prefect server of a command: the user's, one that `spinmeround serve` runs, or one of its own.

Nothing here imports Prefect, so that a server of our own starts first and is up when the imports are done.
It lives as long as the command: it watches its standard input, which the kernel closes when the command
dies, however it dies. Its database is in the folder of runs, so a later `spinmeround serve` shows the runs.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from filelock import Timeout

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, environment_errors
from spinmeround.storage.files import flocked, make_folder, write_atomic

STARTUP_S = 180
"""Longest time that a server may take to answer, in seconds."""
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_S),
    # one by one, a burst of task runs outlasts the server's queue of events and is lost
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
_HEADLESS = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_UI_ENABLED": "0"}
_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}


def configure(runs: Path, *, quiet: bool) -> Path:
    """Set Prefect's environment where the user has not; returns its home. To be called before its import.

    With `quiet` its log goes to the UI alone, not to the terminal too.
    """
    home = Path(os.environ.setdefault("PREFECT_HOME", str(runs.absolute() / ".prefect")))
    for name, value in {**SETTINGS, **(_QUIET if quiet else {})}.items():
        os.environ.setdefault(name, value)
    with environment_errors(home):
        make_folder(home)
    return home


class ServerProcess:
    """A server process of this command, started at once and waited for later; dies with the command.

    Without `ui` it has neither the UI nor the services that schedule runs. Raises ConfigError for a port that is taken.
    """

    def __init__(self, home: Path, *, port: int | None = None, ui: bool = False) -> None:
        if port is not None and not _is_free(port):
            raise ConfigError(f"--port {port}: somebody listens there already; choose another port")
        self._log = home / "server.log"
        self.port = port or free_port()
        with environment_errors(home), ExitStack() as starting:
            starting.enter_context(_alone(home))
            with self._log.open("wb") as log:
                self._process = _start(self.port, log, {} if ui else _HEADLESS)
            self._starting = starting.pop_all()

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def wait(self) -> None:
        """Return when the server answers; raises SpinMeRoundError where it does not."""
        try:
            wait_until_healthy(self.api, self._process, self._log)
        finally:
            self._starting.close()

    def close(self) -> None:
        """End the server in an orderly way, so that it writes down what it was told last."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def prefect_server(home: Path) -> Iterator[ServerProcess | None]:
    """Point PREFECT_API_URL at a server for the length of the block; the one yielded is to be waited for."""
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    if standing := running_server(home):
        os.environ["PREFECT_API_URL"] = standing
        yield None
        return
    server = ServerProcess(home)
    os.environ["PREFECT_API_URL"] = server.api
    try:
        yield server
    finally:
        server.close()


def announce(home: Path, api: str) -> None:
    """Let the commands that use this home know of a standing server."""
    with environment_errors(home):
        write_atomic(home / "serving.json", json.dumps({"api": api}).encode())


def withdraw(home: Path) -> None:
    """The standing server is no more."""
    with environment_errors(home):
        (home / "serving.json").unlink(missing_ok=True)


def running_server(home: Path) -> str | None:
    """The API of the server that `spinmeround serve` runs on this home, if it answers."""
    try:
        api = str(json.loads((home / "serving.json").read_text())["api"])
    except (OSError, ValueError, KeyError):
        return None
    return api if healthy(api) else None


def healthy(api: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_until_healthy(api: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; raises SpinMeRoundError when its process ends or time runs out."""
    deadline = time.monotonic() + STARTUP_S
    while not healthy(api):
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
            raise SpinMeRoundError(
                f"the Prefect server did not start ({' '.join(last) or 'no answer'}); its log is {log}"
            )
        time.sleep(0.1)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """No other command starts a server here meanwhile: two that make one database at once would break it."""
    lock = home / "starting.lock"
    with ExitStack() as held:
        try:
            held.enter_context(flocked(lock, timeout_s=float(STARTUP_S)))
        except Timeout as error:
            raise SpinMeRoundError(
                f"{lock}: another command has been starting a server here for {STARTUP_S} s; wait for it or end it"
            ) from error
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _start(port: int, log: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    urls = {"PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT__SERVER_FINAL": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "spinmeround.flows.server.process", str(port)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **urls, **environment},
    )


def _main(port: int) -> None:
    """The server's process: Prefect's own application, until standard input ends."""
    import signal
    import threading

    import uvicorn

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    _main(int(sys.argv[1]))
