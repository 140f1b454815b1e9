"""The command `review`: merging files, and the served page until it is interrupted."""

import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spinmeround.flows.cli.review import review
from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.flows.run.folder import open_run
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.decisions import load_decisions, record
from tests.e2e.review.screened_run import HEADS, decisions
from tests.support.waiting import LIMIT_S

TOML = f"""
[generator]
name = "tests.support.tiny:make"
options = {{ clipped = [3] }}
[plan]
heads = {HEADS}
[sample]
resolution = 16
previews = {{ azimuths = 4, elevations_deg = [0.0] }}
[score]
cells = 32
[screen.limits]
stray_volume = 1e-4
clipped_volume = 0.0
[render]
resolution = 256
[train.unet]
latent_channels = 8
"""


@pytest.fixture
def options(tmp_path) -> RunOptions:
    """Options of a run that does not exist."""
    (tmp_path / "tiny.toml").write_text(TOML)
    return RunOptions(profile=str(tmp_path / "tiny.toml"), runs=tmp_path / "runs")


def test_a_missing_run_is_not_created(options):
    """A wrong folder is an error and leaves no files."""
    for merge in ([], [options.runs / "mine.json"]):
        with pytest.raises(ConfigError, match="expected a run of profile 'tiny', found none"):
            review(options, port=0, to=None, merge=merge, done=False)
    assert not options.runs.exists()


def test_decisions_are_merged_before_screening(options, backend, tmp_path, monkeypatch, capsys):
    """All named files are merged, or none, into the file in the home folder that the profile names."""
    monkeypatch.setenv("HOME", str(tmp_path))
    options = replace(options, overrides=["review.decisions='~/ours.json'"])
    profile, place = options.load()
    open_run(place, profile.name)
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    record(files[0], backend.session.generator, {"tiny-000000": "drop"})
    with pytest.raises(ConfigError, match=r"second\.json: expected a decisions file"):
        review(options, port=0, to=None, merge=files, done=False)
    assert not (tmp_path / "ours.json").exists()
    record(files[1], backend.session.generator, {"tiny-000001": "keep"})
    review(options, port=0, to=None, merge=files, done=False)
    assert "2 of 12 heads: 1 keep, 1 drop\n" in capsys.readouterr().out
    found = load_decisions(tmp_path / "ours.json", backend.session.generator).active()
    assert found == {"tiny-000000": "drop", "tiny-000001": "keep"}
    with pytest.raises(ConfigError, match="run 'spinmeround stage NAME'"):
        review(options, port=0, to=None, merge=[], done=False)


def test_command_ends_with_the_tally(options, backend):
    """Ctrl-C ends with status 0 and prints the number of decisions, their file and the command that continues."""
    arguments = ["review", "--profile", options.profile, "--out", str(backend.session.folder.root), "--port", "0"]
    command = subprocess.Popen(
        [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    line = command.stdout.readline()
    assert "http://127.0.0.1:" in line, command.stderr.read()
    port = int(line.split()[1].rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    sent = json.dumps({"id": "tiny-000001", "decision": "drop"})
    connection.request("POST", "/decisions", sent, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=LIMIT_S)
    assert command.returncode == 0, errors
    assert "1 of 12 heads: 0 keep, 1 drop" in output
    assert f"spinmeround build --profile {options.profile}" in output
    assert decisions(backend) == {"01": "drop"}
