"""The researcher's day in the UI of `spinmeround serve`, in a real browser."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runs import summary
from tests.e2e.serving import Api, deployments, final_state, serving
from tests.support.browser import launched
from tests.support.waiting import LIMIT_S, until

SHOTS = os.environ.get("SPINMEROUND_SCREENSHOTS")
"""Folder for screenshots of what the test does, to look at and for the documentation."""


def shot(page: Any, name: str) -> None:
    """Keep a screenshot if a folder for them is named."""
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def field(page: Any, name: str) -> Any:
    """The input of the last field of a form with this name."""
    label = f"//label[.//span[normalize-space()='{name} (Optional)']]"
    return page.locator(f"xpath=({label})[last()]/following::*[self::input or self::textarea][1]")


def newest_run(api: Api, deployment: str) -> dict[str, Any] | None:
    """The newest run of a deployment."""
    wanted = {"deployments": {"id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    found = api.post("/flow_runs/filter", wanted)
    return found[0] if found else None


def research(tmp_path: Path) -> None:
    """The researcher's steps in the browser."""
    with serving(tmp_path) as api, launched() as browser:
        sample = until(lambda: deployments(api, "demo"))["demo-sample"]["id"]
        base = api.url.removesuffix("/api")
        page = browser.new_page(viewport={"width": 1200, "height": 1300})
        page.set_default_timeout(LIMIT_S * 1000)
        page.goto(f"{base}/deployments/deployment/{sample}/run")
        resolution = field(page, "resolution")
        resolution.wait_for()
        shot(page, "ui-form")
        for text in ("sample (Optional)", "From 8 to", "generator (Optional)", "plan (Optional)"):
            assert page.get_by_text(text).count() >= 1
        assert page.get_by_text("mesh (Optional)").count() == 0

        submit = page.get_by_role("button", name="Submit")
        resolution.fill("0")
        submit.click()
        page.get_by_text("0 is less than the minimum of 8").first.wait_for()
        shot(page, "ui-refused")
        assert newest_run(api, sample) is None

        resolution.fill("32")
        field(page, "heads").fill("3-4")
        submit.click()
        run = until(lambda: newest_run(api, sample))
        assert run["parameters"]["profile"]["sample"]["resolution"] == 32
        assert until(final_state(api, run["id"])) == "COMPLETED"
        assert summary(tmp_path / "demo")["stages"]["sample"]["made"] == 2

        page.goto(f"{base}/runs/flow-run/{run['id']}")
        page.get_by_text("Artifacts", exact=True).first.click()
        for key in ("progress-sample", "pictures-sample", "outcome"):
            page.get_by_text(key).first.wait_for()
        shot(page, "ui-artifacts")
        page.get_by_text("outcome").first.click()
        page.get_by_text("requested").first.wait_for()
        shot(page, "ui-outcome")


def test_a_researcher_runs_one_stage(tmp_path: Path) -> None:
    """A field out of range is refused; with a valid one the stage runs, and its page shows counts and pictures."""
    with ThreadPoolExecutor(1) as pool:  # where another test has left its browser open, a loop runs in this thread
        pool.submit(research, tmp_path).result()


pytestmark = pytest.mark.e2e
