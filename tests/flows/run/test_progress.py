"""The progress of a run as plain lines."""

import re

import pytest

from spinmeround.flows.run import progress
from spinmeround.flows.run.progress import PlainProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_is_that_of_the_steps_that_were_watched(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that resumes at step 11 of 20, a step a second: what was complete when it started counts for no
    rate."""
    shown = PlainProgress()
    shown.stage("train", 20, 10)
    for _ in range(10):
        shown.advance("train", note="loss 0.5")
        clock[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: 12/20  1/s, 0:00:08 left  loss 0.5"
    assert lines[-1] == "train: 20/20  1/s  loss 0.5"
    assert all(re.search(r"\b1/s", line) for line in lines)


def test_a_single_step_has_no_rate(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A stage of one step, which is complete when it is shown."""
    shown = PlainProgress()
    shown.stage("train", 1)
    shown.advance("train", note="loss 0.5")
    assert capsys.readouterr().err == "train: 1/1  loss 0.5\n"
