"""Builds with too many quarantined heads that wait for a person."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from spinmeround.flows.profile import Profile
from spinmeround.flows.run import pause
from spinmeround.storage.errors import SpinMeRoundError
from tests.e2e.pauses import form, meanwhile
from tests.e2e.runs import build, summary
from tests.support.waiting import LIMIT_S

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused runs check often whether they may resume."""
    monkeypatch.setattr(pause, "POLL_S", 0.4)


def profile_of(tiny: Callable[..., Profile], cure: Path, pause_s: float) -> Profile:
    """Four heads, two of which fail while the file `cure` is missing; one may."""
    return tiny(
        generator={"name": "tests.support.tiny:make", "options": {"failing": [1, 2], "cure": str(cure)}},
        execution={"workers": 1, "retries": 0, "max_quarantined_share": 0.25, "failure_pause_s": pause_s},
    )


def test_a_person_mends_the_cause(tiny: Callable[..., Profile], tmp_path: Path) -> None:
    """The form says which heads failed and why; after the answer they are tried again, and nothing is made twice."""
    profile = profile_of(tiny, tmp_path / "cure", LIMIT_S)

    def answer(run: FlowRun, resume: Callable[[dict[str, Any]], Any]) -> None:
        shown = form(run)
        assert "2 of 4 heads are quarantined" in shown["description"]
        assert "- tiny-000001 in sample: RuntimeError: seed 1 has no nose" in shown["description"]
        assert shown["schema"]["properties"]["max_quarantined_share"]["default"] == 0.25
        (tmp_path / "cure").touch()
        resume({"retry": True, "max_quarantined_share": 0.25})

    with meanwhile(answer):
        found = build(profile, tmp_path / "runs")
    assert (found["heads"]["written"], found["heads"]["quarantined"]) == (4, 0)
    assert (found["stages"]["sample"]["made"], found["stages"]["sample"]["reused"]) == (4, 0)


def test_a_person_lets_it_go_on_without_them(tiny: Callable[..., Profile], tmp_path: Path) -> None:
    """With a larger share and no retry the dataset has the other heads."""

    def answer(run: FlowRun, resume: Callable[[dict[str, Any]], Any]) -> None:
        resume({"retry": False, "max_quarantined_share": 0.5})

    with meanwhile(answer):
        found = build(profile_of(tiny, tmp_path / "cure", LIMIT_S), tmp_path / "runs")
    assert (found["heads"]["written"], found["heads"]["quarantined"]) == (2, 2)


def test_nobody_answers(tiny: Callable[..., Profile], tmp_path: Path) -> None:
    """The build fails with its reason, and its summary counts what was made and lost."""
    with pytest.raises(SpinMeRoundError, match="2 of 4 heads are quarantined"):
        build(profile_of(tiny, tmp_path / "cure", 1.0), tmp_path / "runs")
    found = summary(tmp_path / "runs" / "tiny")
    assert "2 of 4 heads are quarantined" in found["error"]
    assert found["heads"]["quarantined"] == 2
