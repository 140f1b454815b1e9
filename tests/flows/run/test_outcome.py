"""The outcome of a run, as Markdown."""

from pathlib import Path
from typing import Any

import pytest

from spinmeround.flows.run.outcome import PAGES_ROOT, outcome_markdown
from spinmeround.storage.artifacts import Failure

pytestmark = pytest.mark.fast


def summary(folder: Path, **changes: Any) -> dict[str, Any]:
    """A summary of a run of five heads."""
    return {
        "heads": {
            "asked": 5,
            "screened_out": {"stray_volume": 2},
            "kept_by_review": 1,
            "quarantined": 1,
            "written": 2,
            "pending": 0,
        },
        "stages": {"sample": {"made": 3, "reused": 2, "seconds": 1.5}},
        "dataset": {"path": str(folder / "demo" / "datasets" / "a.zarr"), "digest": "0123"},
        "report": str(folder / "demo" / "report.html"),
        "error": None,
        **changes,
    }


def test_all_counts_and_reasons(tmp_path: Path) -> None:
    """Heads by outcome, stages with what was made and reused, and quarantined heads with an escaped reason."""
    failure = Failure(
        stage="mesh", key="k", subject="tiny-000003", reason="a | b", traceback="", attempts=2, created="now"
    )
    lines = outcome_markdown(summary(tmp_path), [failure]).splitlines()
    for line in (
        "| requested | 5 |",
        "| screened out: stray_volume | 2 |",
        "| written | 2 |",
        "| sample | 3 | 2 | 1.5 |",
        r"| tiny-000003 | mesh | a \| b | 2 |",
    ):
        assert line in lines
    assert not any("Failed" in line for line in lines)


def test_a_failed_run_begins_with_its_error(tmp_path: Path) -> None:
    """Counts of what it made before are shown all the same."""
    markdown = outcome_markdown(summary(tmp_path, error="disk full", dataset=None, report=None), [])
    assert markdown.startswith("**Failed:** disk full\n")
    assert "| sample | 3 | 2 | 1.5 |" in markdown


def test_the_report_is_a_link_where_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the served folder a link, else the path."""
    monkeypatch.delenv(PAGES_ROOT, raising=False)
    assert f"report: `{tmp_path}/demo/report.html`" in outcome_markdown(summary(tmp_path), [])
    monkeypatch.setenv(PAGES_ROOT, str(tmp_path))
    assert "[report](/files/demo/report.html)" in outcome_markdown(summary(tmp_path), [])
    monkeypatch.setenv(PAGES_ROOT, str(tmp_path / "other"))
    assert f"report: `{tmp_path}/demo/report.html`" in outcome_markdown(summary(tmp_path), [])
