"""Limits for the screen from labelled heads, chosen by the flow and used by a build."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spinmeround.flows.calibration import calibration_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.models.screening.scores import SCORES
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.calibrate import CalibrateParams
from spinmeround.tasks.screening.decisions import Decision, Decisions, generator_id
from tests.e2e.runs import build

SPOILT = [1, 4, 5, 9, 13, 17]


@pytest.fixture
def labelled(tiny):
    """Twenty heads, six of which are spoilt, and a screen without limits."""
    return tiny(
        generator={"name": "tests.support.tiny:make", "options": {"clipped": SPOILT}}, plan={"heads": 20}, screen={}
    )


def calibrated(profile, runs, **params):
    files = sized(calibration_flow, profile)(profile, CalibrateParams(folds=2, **params), Place(runs=str(runs)))
    return {file.rsplit("/", 1)[-1]: file for file in files}


def test_limits_from_the_truth_drop_the_spoilt_heads(labelled, tmp_path):
    """The written section goes into a profile as it is, measures nothing anew, and drops just the spoilt heads."""
    files = calibrated(labelled, tmp_path, keep=0.7)
    section = tomllib.loads(Path(files["screening.toml"]).read_text())["screen"]
    figures = json.loads(Path(files["calibration.json"]).read_text())
    assert figures["sound"] == 14
    assert figures["spoilt"] == 6
    assert {row["kind"]: (row["heads"], row["dropped"]) for row in figures["rows"]}["clipped volume"] == (6, 6)
    assert "20 heads of tiny-000000 to tiny-000019" in section["origin"]
    page = Path(files["calibration.html"]).read_text()
    assert page.count("<svg") == 1 + len(SCORES)
    assert "http-equiv" not in page
    found = build(labelled.model_copy(update={"screen": type(labelled.screen)(**section)}), tmp_path)
    assert found["stages"]["score"]["made"] == 0
    assert found["heads"]["dropped"] >= 6


def test_labels_of_a_person(labelled, tmp_path):
    """Only heads that a person decided on count, with the person's word, whatever the truth is."""
    said = {f"tiny-{seed:06d}": "drop" if seed in SPOILT[:4] else "keep" for seed in range(16)}
    now = datetime.now(UTC)
    decisions = Decisions(
        generator=generator_id({"generator": labelled.generator}),
        decisions={name: Decision(decision=word, time=now) for name, word in said.items()},
    )
    path = tmp_path / "decisions.json"
    path.write_bytes(decisions.to_json())
    files = calibrated(labelled, tmp_path / "runs", keep=0.5, labels=str(path))
    figures = json.loads(Path(files["calibration.json"]).read_text())
    assert (figures["sound"], figures["spoilt"]) == (12, 4)
    assert figures["rows"][1]["kind"] == "spoilt"


def test_labels_that_are_not_there_are_named(labelled, tmp_path):
    with pytest.raises(ConfigError, match=r"--labels nowhere\.json: expected 'truth' or a decisions file"):
        calibrated(labelled, tmp_path, keep=0.7, labels="nowhere.json")


def test_what_cannot_be_reached_is_told(tiny, tmp_path):
    """A set without spoilt heads is refused with what to do."""
    with pytest.raises(ConfigError, match="found 4 and 0; label more heads"):
        calibrated(tiny(screen={}), tmp_path, keep=0.9)
