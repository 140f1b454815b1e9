"""Reviews of a paused build on a real server: the form's answer, the decisions file, reruns that do not pause again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from spinmeround.flows.dataset import find_dataset
from spinmeround.flows.run import pause
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import view_session
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.screening.decisions import load_decisions, mark_reviewed, record, review_digest
from tests.e2e.pauses import form, meanwhile, paused
from tests.e2e.runs import build, copy_runs, counts, summary
from tests.support.waiting import LIMIT_S, until

pytestmark = pytest.mark.usefixtures("server")
CLIPPED = {"name": "tests.support.tiny:make", "options": {"clipped": [1, 2]}}
PAUSED = {"pause": True, "pause_timeout_s": int(LIMIT_S)}


@pytest.fixture(scope="module")
def clipped_build(server, tiny, tmp_path_factory) -> Path:
    """The folder of runs with a build in which the screen drops two of four heads."""
    runs = tmp_path_factory.mktemp("clipped-build")
    build(tiny(generator=CLIPPED), runs)
    return runs


@pytest.fixture
def runs(clipped_build, tmp_path) -> Path:
    """A copy of that folder."""
    return copy_runs(clipped_build, tmp_path / "runs")


@pytest.fixture(autouse=True)
def short_polls(monkeypatch) -> None:
    """Paused runs check often whether they may resume."""
    monkeypatch.setattr(pause, "POLL_S", 0.4)


def test_decisions_remake_single_heads(tiny, runs):
    """A drop and a rescue remake those heads only; withdrawing them gives the first dataset again."""
    profile, file, first = tiny(generator=CLIPPED), runs / "tiny" / "decisions.json", summary(runs / "tiny")
    with view_session(profile, Place(runs=str(runs))) as session:
        generator = session.generator
    record(file, generator, {"tiny-000000": "drop", "tiny-000001": "keep", "tiny-000077": "drop"})
    second = build(profile, runs)
    assert counts(second)["review"] == (2, 2)
    assert [counts(second)[name] for name in ("sample", "score", "screen")] == [(0, 4)] * 3
    assert counts(second)["render"] == (1, 2)
    assert second["heads"]["screened_out"] == {"clipped_volume": 1, "review": 1}
    assert (second["heads"]["dropped"], second["heads"]["kept_by_review"], second["heads"]["written"]) == (2, 1, 2)
    assert second["dataset"]["digest"] != first["dataset"]["digest"]
    record(file, generator, {"tiny-000000": "none", "tiny-000001": "none"})
    third = build(profile, runs)
    assert counts(third)["review"] == (0, 4)
    assert third["dataset"]["digest"] == first["dataset"]["digest"]


def test_training_requires_a_build_with_the_current_decisions(tiny, runs):
    """After a new decision, training requires a build and does not use the old dataset."""
    with view_session(tiny(generator=CLIPPED), Place(runs=str(runs))) as session:
        record(session.decisions_file, session.generator, {"tiny-000003": "drop"})
        with pytest.raises(ConfigError, match=r"tiny-000003 is not .*; run 'spinmeround build'"):
            find_dataset(session)


def test_a_named_decisions_file_must_exist(tiny, runs):
    """A missing file is an error before any work; the content of the file counts, not its path."""
    named = runs / "elsewhere" / "mine.json"
    profile = tiny(generator=CLIPPED, review={"decisions": str(named)})
    with pytest.raises(ConfigError, match=r"review\.decisions: expected a decisions file at .*mine\.json, found none"):
        build(profile, runs / "new")
    assert not list((runs / "new" / "tiny").glob("store/*"))
    with view_session(profile, Place(runs=str(runs))) as session:
        record(named, session.generator, {"tiny-000003": "drop"})
    found = build(profile, runs)
    assert found["heads"]["screened_out"] == {"clipped_volume": 2, "review": 1}
    (runs / "tiny" / "decisions.json").write_bytes(named.read_bytes())
    with view_session(tiny(generator=CLIPPED), Place(runs=str(runs))) as session:
        assert find_dataset(session).digest == found["dataset"]["digest"]


def test_the_form_of_a_paused_build(tiny, tmp_path):
    """The form shows the screen's counts; an invalid answer is rejected with a reason; a rerun does not ask again."""
    profile = tiny(generator=CLIPPED, review=PAUSED)

    def answer(run: FlowRun, resume: Callable[[dict], Any]) -> None:
        shown = form(run)
        assert "4 heads screened: 2 kept, 2 dropped (2 clipped volume" in shown["description"]
        assert "spinmeround review" in shown["description"]
        assert set(shown["schema"]["properties"]) == {"keep", "drop", "decisions_file"}
        assert not (tmp_path / "tiny" / "store" / "render").exists()
        resume({"drop": "tiny-000009"})
        until(lambda: any("found 'tiny-000009'" in form(each)["description"] for each in paused() if each.id == run.id))
        resume({"keep": "tiny-000001, tiny-000002", "drop": "tiny-000003"})

    with meanwhile(answer):
        found = build(profile, tmp_path)
    assert found["heads"]["screened_out"] == {"review": 1}
    assert (found["heads"]["kept_by_review"], found["heads"]["written"]) == (2, 3)
    with view_session(profile, Place(runs=str(tmp_path))) as session:
        decisions = load_decisions(session.decisions_file, session.generator).active()
    assert decisions == {"tiny-000001": "keep", "tiny-000002": "keep", "tiny-000003": "drop"}
    again = build(profile, tmp_path)
    assert counts(again)["review"] == (0, 4)
    assert again["dataset"] == found["dataset"]


def test_done_on_the_page_resumes_the_build(tiny, runs):
    """The mark in the decisions file resumes the run, with the decisions made on the page."""
    profile = tiny(generator=CLIPPED, review=PAUSED)

    def done(run: FlowRun, resume: Callable[[dict], Any]) -> None:
        with view_session(profile, Place(runs=str(runs))) as session:
            record(session.decisions_file, session.generator, {"tiny-000003": "drop"})
            mark_reviewed(session.decisions_file, session.generator, review_digest(session.screen_verdicts()))

    with meanwhile(done):
        assert build(profile, runs)["heads"]["screened_out"] == {"clipped_volume": 2, "review": 1}


def test_a_review_that_times_out(tiny, runs):
    """The error states that results are kept; a rerun reuses the screening, pauses again and merges a given file."""
    profile = tiny(generator=CLIPPED, review={"pause": True, "pause_timeout_s": 2})
    with pytest.raises(SpinMeRoundError, match=r"no review within review\.pause_timeout_s \(2 s\)"):
        build(profile, runs)
    downloaded = runs / "download.json"
    with view_session(profile, Place(runs=str(runs))) as session:
        record(downloaded, session.generator, {"tiny-000000": "drop"})
    with meanwhile(lambda run, resume: resume({"decisions_file": str(downloaded)})):
        found = build(tiny(generator=CLIPPED, review=PAUSED), runs)
    assert counts(found)["screen"] == (0, 4)
    assert found["heads"]["screened_out"] == {"clipped_volume": 2, "review": 1}
