"""Builds whose Prefect server is killed: what people look at is lost for a while, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from spinmeround.flows.profile import Profile
from spinmeround.flows.server.process import api_of, free_port, healthy
from tests.e2e.conftest import write_profile
from tests.e2e.runs import artifacts, build, spinmeround
from tests.support.waiting import LIMIT_S, until

GENERATOR = {"name": "tests.support.tiny:make", "options": {"delay_s": 0.3}}
SERVER = "spinmeround.flows.server.process"


def slow_profile(tiny: Callable[..., Profile]) -> Profile:
    """A profile whose build lasts long enough to lose its server."""
    return tiny(generator=GENERATOR, plan={"heads": 8})


def own_environment(**values: str) -> dict[str, str]:
    """An environment without the tests' server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), **values}


def servers_of(command: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The server processes that a command has started and that run."""
    servers = []
    for child in psutil.Process(command.pid).children():
        with suppress(psutil.Error):  # it has ended
            if SERVER in " ".join(child.cmdline()):
                servers.append(child)
    return servers


def test_the_commands_own_server_is_killed(server: str, tiny: Callable[..., Profile], tmp_path: Path) -> None:
    """It is started again, and the build ends as an undisturbed one."""
    profile = slow_profile(tiny)
    digest = build(profile, tmp_path / "undisturbed")["dataset"]["digest"]
    file = write_profile(profile, tmp_path / "tiny.toml")
    command = ["build", "--profile", str(file), "--runs", str(tmp_path / "runs")]
    process = spinmeround(*command, environment=own_environment())
    until(lambda: len(artifacts(tmp_path / "runs" / "tiny" / "store")) >= 6 or process.poll() is not None)
    (killed,) = servers_of(process)
    killed.send_signal(signal.SIGKILL)
    again = until(
        lambda: [each for each in servers_of(process) if each.pid != killed.pid] or process.poll() is not None
    )
    assert isinstance(again, list), "the server was not started again"
    output, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert digest in output
    assert "Traceback" not in errors


def test_a_standing_server_is_gone_for_good(server: str, tiny: Callable[..., Profile], tmp_path: Path) -> None:
    """The build goes on without it; the command says so and succeeds."""
    profile = slow_profile(tiny)
    file, port = write_profile(profile, tmp_path / "tiny.toml"), free_port()
    (tmp_path / "home").mkdir()
    environment = own_environment(PREFECT_HOME=str(tmp_path / "home"))
    standing = subprocess.Popen([sys.executable, "-m", SERVER, str(port)], env=environment, stdin=subprocess.PIPE)
    try:
        until(lambda: healthy(api_of(port)) or standing.poll() is not None)
        process = spinmeround(
            *["build", "--profile", str(file), "--runs", str(tmp_path / "runs")],
            environment={**environment, "PREFECT_API_URL": api_of(port), "PREFECT_CLIENT_MAX_RETRIES": "1"},
        )
        until(lambda: len(artifacts(tmp_path / "runs" / "tiny" / "store")) >= 6 or process.poll() is not None)
    finally:
        standing.kill()
        standing.communicate()
    output, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert "the run is complete, but the UI does not show it" in errors
    assert "Traceback" not in errors
    summary = json.loads((tmp_path / "runs" / "tiny" / "summary.json").read_text())
    assert summary["error"] is None
    assert summary["dataset"]["digest"] in output
