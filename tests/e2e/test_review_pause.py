"""A person's word on a real server: a paused build, the form's answer, the decisions file, reruns that don't ask."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.objects import FlowRun

from spinmeround.flows.dataset import find_dataset
from spinmeround.flows.review import pause as review_pause
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import view_session
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.screening.decisions import load_decisions, mark_reviewed, record, review_digest
from tests.e2e.runs import build, counts, summary

pytestmark = pytest.mark.usefixtures("server")
CLIPPED = {"name": "tests.support.tiny:make", "options": {"clipped": [1, 2]}}


@pytest.fixture(scope="module")
def built(server, tiny, tmp_path_factory) -> Path:
    """The folder of a run that is built, with two of its four heads dropped by the screen."""
    runs = tmp_path_factory.mktemp("built")
    build(tiny(generator=CLIPPED), runs)
    return runs / "tiny"


@pytest.fixture
def runs(built, tmp_path) -> Path:
    """A folder with a copy of that run."""
    shutil.copytree(built, tmp_path / "tiny")
    return tmp_path


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Paused runs look often whether they may go on."""
    monkeypatch.setattr(review_pause, "POLL_S", 0.4)


def paused(since: set[Any]) -> FlowRun | None:
    """The run that waits, if one does that was not there before."""
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs(limit=50) if run.id not in since]
    return next((run for run in runs if run.state is not None and run.state.is_paused()), None)


@contextmanager
def meanwhile(act: Callable[[FlowRun, Callable[[dict], Any]], None]) -> Iterator[list[str]]:
    """While the block builds, `act` on the run that pauses; the yielded list gets what went wrong there."""
    with get_client(sync_client=True) as client:
        before = {run.id for run in client.read_flow_runs(limit=200)}
    wrong: list[str] = []

    def answer() -> None:
        try:
            deadline = time.monotonic() + 120
            while (run := paused(before)) is None:
                assert time.monotonic() < deadline, "the build did not pause"
                time.sleep(0.3)
            with get_client(sync_client=True) as client:
                act(run, lambda values: client.resume_flow_run(run.id, run_input=values))
        except Exception as error:
            wrong.append(repr(error))

    thread = threading.Thread(target=answer)
    thread.start()
    yield wrong
    thread.join()
    assert wrong == []


def form(run: FlowRun) -> dict[str, Any]:
    """What the UI shows of a paused run: the description and the fields."""
    keyset = run.state.state_details.run_input_keyset
    with get_client(sync_client=True) as client:
        answers = [client.read_flow_run_input(run.id, keyset[name]) for name in ("description", "schema")]
    return dict(zip(("description", "schema"), map(json.loads, answers), strict=True))


def test_decisions_of_the_file_are_honoured_one_by_one(tiny, runs):
    """A drop and a rescue redo just those heads; taking them back gives the first dataset again."""
    profile, file, first = tiny(generator=CLIPPED), runs / "tiny" / "decisions.json", summary(runs / "tiny")
    with view_session(profile, Place(runs=str(runs))) as session:
        generator = session.generator
    record(file, generator, {"tiny-000000": "drop", "tiny-000001": "keep", "tiny-000077": "drop"})
    second = build(profile, runs)
    assert counts(second)["review"] == (2, 2)
    assert [counts(second)[name] for name in ("sample", "score", "screen", "render")] == [
        (0, 4),
        (0, 4),
        (0, 4),
        (1, 2),
    ]
    assert second["heads"]["screened_out"] == {"clipped_volume": 1, "review": 1}
    assert (second["heads"]["dropped"], second["heads"]["kept_by_review"], second["heads"]["written"]) == (2, 1, 2)
    assert second["dataset"]["digest"] != first["dataset"]["digest"]
    record(file, generator, {"tiny-000000": "none", "tiny-000001": "none"})
    third = build(profile, runs)
    assert counts(third)["review"] == (0, 4)
    assert third["dataset"] == {**first["dataset"], "path": third["dataset"]["path"]}


def test_a_new_decision_makes_the_dataset_stale(tiny, runs):
    """Training after a decision that no build has seen says to build first; it never takes the old dataset."""
    with view_session(tiny(generator=CLIPPED), Place(runs=str(runs))) as session:
        record(session.decisions_file, session.generator, {"tiny-000003": "drop"})
        with pytest.raises(ConfigError, match="tiny-000003 is not reviewed or written yet; run 'spinmeround build'"):
            find_dataset(session)


def test_named_decisions_must_be_there(tiny, runs):
    """A path that holds no file is refused before anything is made; it is the content that counts, not the path."""
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


def test_paused_answered_and_not_asked_again(tiny, tmp_path):
    """The form says what the screen did; a wrong answer is told and asked again; the answer outlives the run."""
    profile = tiny(generator=CLIPPED, review={"pause": True})

    def answer(run: FlowRun, resume: Callable[[dict], Any]) -> None:
        shown = form(run)
        assert "4 heads screened: 2 kept, 2 dropped (2 clipped volume" in shown["description"]
        assert "spinmeround review" in shown["description"]
        assert set(shown["schema"]["properties"]) == {"keep", "drop", "decisions_file"}
        assert not (tmp_path / "tiny" / "store" / "render").exists()
        resume({"drop": "tiny-000009"})
        deadline = time.monotonic() + 60
        while "found 'tiny-000009'" not in str(again := paused(set()) and form(paused(set()))["description"]):
            assert time.monotonic() < deadline, again
            time.sleep(0.3)
        resume({"keep": "tiny-000001, tiny-000002", "drop": "tiny-000003"})

    with meanwhile(answer):
        found = build(profile, tmp_path)
    assert found["heads"]["screened_out"] == {"review": 1}
    assert (found["heads"]["kept_by_review"], found["heads"]["written"]) == (2, 3)
    with view_session(profile, Place(runs=str(tmp_path))) as session:
        rulings = load_decisions(session.decisions_file, session.generator).rulings()
    assert rulings == {"tiny-000001": "keep", "tiny-000002": "keep", "tiny-000003": "drop"}
    again = build(profile, tmp_path)
    assert counts(again)["review"] == (0, 4)
    assert again["dataset"] == found["dataset"]


def test_the_pages_done_lets_it_go_on(tiny, runs):
    """The mark in the decisions file resumes the run without the UI, with what was decided on the page."""
    profile = tiny(generator=CLIPPED, review={"pause": True})

    def done(run: FlowRun, resume: Callable[[dict], Any]) -> None:
        with view_session(profile, Place(runs=str(runs))) as session:
            record(session.decisions_file, session.generator, {"tiny-000003": "drop"})
            mark_reviewed(session.decisions_file, session.generator, review_digest(session.screen_verdicts()))

    with meanwhile(done):
        assert build(profile, runs)["heads"]["screened_out"] == {"clipped_volume": 2, "review": 1}


def test_nobody_comes(tiny, runs):
    """The wait ends in words that say what is kept; a rerun screens nothing anew and asks again."""
    profile = tiny(generator=CLIPPED, review={"pause": True, "pause_timeout_s": 2})
    with pytest.raises(SpinMeRoundError, match=r"nobody reviewed the heads within review\.pause_timeout_s \(2 s\)"):
        build(profile, runs)
    downloaded = runs / "download.json"
    with view_session(profile, Place(runs=str(runs))) as session:
        record(downloaded, session.generator, {"tiny-000000": "drop"})
    with meanwhile(lambda run, resume: resume({"decisions_file": str(downloaded)})):
        found = build(tiny(generator=CLIPPED, review={"pause": True}), runs)
    assert counts(found)["screen"] == (0, 4)
    assert found["heads"]["screened_out"] == {"clipped_volume": 2, "review": 1}
