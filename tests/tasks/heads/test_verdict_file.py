"""Verdict files are checked when they are read, and their content enters the screen's key."""

import pytest

from spinmeround.models.screening.verdict import LearnedVerdict, ScoreCurve
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.screen import (
    NO_EVIDENCE,
    SCREEN,
    ScreenLimits,
    ScreenParams,
    ScreenSections,
    load_verdict,
    screen,
)
from spinmeround.tasks.heads.verdict_file import verdict_file
from spinmeround.tasks.stage import Head, StageJob


def learned(threshold: float = 0.5, name: str = "stray_volume", intercept: float = -2.0) -> LearnedVerdict:
    curve = ScoreCurve(score=name, knots=(0.0, 1.0), log_odds=(0.0, 8.0))
    return LearnedVerdict(intercept=intercept, threshold=threshold, curves=(curve,))


def written(path, verdict: LearnedVerdict) -> str:
    path.write_text(verdict.model_dump_json(), encoding="utf-8")
    return str(path)


def test_a_probability_above_the_threshold_drops_a_head():
    """The reason is the score that weighs most; probability and evidence are kept."""
    found = screen({"stray_volume": 0.5}, ScreenParams(), learned())
    assert (found.keep, found.reasons) == (False, ("stray_volume",))
    assert found.probability == pytest.approx(0.8808, abs=1e-4)
    assert found.evidence == {"stray_volume": 4.0}
    assert screen({"stray_volume": 0.2}, ScreenParams(), learned()).keep


def test_limits_add_to_a_verdict():
    """A head is dropped by either; the reasons of the verdict come first."""
    params = ScreenParams(limits=ScreenLimits(colour_seam=0.1, stray_volume=0.1))
    assert screen({"colour_seam": 0.2}, params, learned()).reasons == ("colour_seam",)
    both = screen({"colour_seam": 0.2, "stray_volume": 0.5}, params, learned())
    assert both.reasons == ("stray_volume", "colour_seam")


def test_a_drop_always_has_a_reason():
    """Where no score speaks against a head, the reason says so."""
    assert screen({}, ScreenParams(), learned(intercept=3.0)).reasons == (NO_EVIDENCE,)


def test_the_content_of_the_file_enters_the_key_and_its_path_does_not(tmp_path):
    """A moved file remakes nothing; another verdict does, and so does none."""
    names = [
        written(tmp_path / "a.json", learned()),
        written(tmp_path / "b.json", learned()),
        written(tmp_path / "c.json", learned(threshold=0.6)),
        "",
    ]
    head, inputs = Head(id="tiny-000000", seed=0), {"score": "0" * 64}
    keys = [SCREEN.key(head, ScreenSections(screen=ScreenParams(verdict=name)), inputs) for name in names]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_the_stage_writes_what_the_verdict_says(tmp_path):
    """The artifact holds the probability and the evidence; without a verdict it has neither."""
    (tmp_path / "scores.json").write_text(json_text({"stray_volume": 0.5}, "test"), encoding="utf-8")
    for name, evidence in (("", {}), (written(tmp_path / "a.json", learned()), {"stray_volume": 4.0})):
        job = StageJob(
            head=Head(id="tiny-000000", seed=0),
            sections=ScreenSections(screen=ScreenParams(verdict=name)),
            inputs={"score": tmp_path},
            out=tmp_path,
        )
        SCREEN.make(job)
        found = load_verdict(tmp_path)
        assert found.evidence == evidence
        assert (found.probability is None) == (found.keep) == (name == "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a verdict file of 'spinmeround screen calibrate', found none"),
        ("{}", "expected a file written by 'spinmeround screen calibrate', found intercept"),
        ('{"schema_version": 2}', "schema version 2, this software reads up to 1"),
        (
            learned(name="nose_length").model_dump_json(),
            "expected scores that this version measures, found nose_length",
        ),
    ],
    ids=["missing", "empty", "newer", "unknown score"],
)
def test_an_unusable_file_is_refused(content, message, tmp_path):
    """The error names the file and what to do."""
    path = tmp_path / "verdict.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        verdict_file(str(path))
    assert str(path) in str(caught.value)
