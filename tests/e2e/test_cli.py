"""The command line, in processes of its own: exit status, words, and what survives kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.e2e.runs import summary


@pytest.fixture
def profile_file(tiny, tmp_path) -> Path:
    """The tiny profile as a file, with a generator slow enough to be killed at work."""
    path = tmp_path / "tiny.json"
    generator = {"name": "tests.support.tiny:make", "options": {"delay_s": 0.3}}
    values = tiny(generator=generator, plan={"heads": 8}).model_dump(mode="json", exclude_none=True)
    path.write_text(json.dumps(values))
    toml = tmp_path / "tiny.toml"
    toml.write_text(_toml(values))
    return toml


def _toml(values: dict, prefix: str = "") -> str:
    """Nested tables as TOML; JSON's numbers, texts, booleans and lists are TOML's too."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{prefix}{name}]", _toml(value, f"{prefix}{name}.")]
    return "\n".join(lines)


def spinmeround(*arguments: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """The command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def artifacts(store: Path) -> int:
    return len(list(store.glob("*/??/*/manifest.json")))


def test_kill_in_the_middle_and_again(tiny, profile_file, tmp_path, environment):
    """kill -9 in the middle leaves whole artifacts, no orphan, and a rerun ends with the undisturbed digest."""
    options = ["--profile", str(profile_file), "--runs"]
    killed = spinmeround("build", *options, str(tmp_path / "killed"), environment=environment)
    store = tmp_path / "killed" / "tiny" / "store"
    while artifacts(store) < 12 and killed.poll() is None:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = artifacts(store)
    assert 12 <= before < 73

    again = spinmeround("build", *options, str(tmp_path / "killed"), environment=environment)
    whole = spinmeround("build", *options, str(tmp_path / "whole"), environment=environment)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    whole.communicate()
    found, undisturbed = (summary(tmp_path / run / "tiny") for run in ("killed", "whole"))
    assert found["dataset"]["digest"] == undisturbed["dataset"]["digest"]
    assert found["dataset"]["digest"] in output
    assert sum(stage["reused"] for stage in found["stages"].values()) >= before - 1
    assert not list((store / "tmp").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--profile", "nobody"], "'nobody': expected one of demo"),
        (["build", "--set", "mesh.levle=3"], "mesh.levle: unknown field; did you mean mesh.level?"),
        (["build", "--set", "views.azimuths=0"], "views.azimuths"),
        (["build", "--workers", "-1"], "execution.workers"),
        (["stage", "sculpt"], "stage 'sculpt': expected one of sample, screen"),
        (["dataset", "info", "/nowhere"], "/nowhere"),
    ],
    ids=["profile", "field", "grid", "workers", "stage", "dataset"],
)
def test_mistakes_are_told_in_two_lines(arguments, message, environment, tmp_path):
    """Exit status 2, a line or two on standard error that name the mistake, no traceback, nothing made."""
    runs = [] if arguments[0] == "dataset" else ["--runs", str(tmp_path / "runs")]
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, [*arguments, *runs])
    assert result.exit_code == 2, result.output
    told = result.stderr.strip().splitlines()
    assert message in told[-1] or message in told[0]
    assert len(told) <= 2
    assert not list((tmp_path / "runs").glob("*/store/*"))


def test_a_full_disk_is_told_and_survived(tiny, profile_file, tmp_path, environment):
    """A target that fills up ends the build with a line that says so; with room again, the same command finishes it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        arguments = ["build", "--profile", str(profile_file), "--runs", str(tmp_path / "runs"), "--out", str(disk)]
        with patch.dict(os.environ, environment):
            full = CliRunner().invoke(app, arguments)
            assert full.exit_code == 2
            assert "disk is full" in full.stderr.splitlines()[-1]
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            again = CliRunner().invoke(app, arguments)
        assert again.exit_code == 0, again.stderr
        assert summary(disk)["heads"]["quarantined"] == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
