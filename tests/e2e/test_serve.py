"""`spinmeround serve`: deployments of all flows, whose forms know the profile's fields and whose runs complete."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from spinmeround.flows.profile import load_profile
from tests.e2e.runs import summary
from tests.e2e.serving import NAMES, Api, artifacts_of, deployments, final_state, serving
from tests.support.browser import launched
from tests.support.waiting import LIMIT_S, until


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Api]:
    """The API of `spinmeround serve` on the runs of `tmp_path`, once it serves."""
    with serving(tmp_path) as api:
        yield api


def test_a_stage_started_in_the_ui(served, tmp_path):
    """Each flow and stage has a form with the fields that it reads; invalid values are refused, a run completes."""
    found = until(lambda: deployments(served, "demo"))
    assert set(found) == NAMES
    assert not served.post("/deployments/filter", {"deployments": {"tags": {"all_": ["panohead"]}}})

    stage = found["demo-sample"]
    fields = stage["parameter_openapi_schema"]["properties"]
    assert list(fields) == ["profile", "heads", "place"]
    assert set(fields["profile"]["properties"]) == {
        "name",
        "extends",
        "generator",
        "sample",
        "plan",
        "execution",
        "set",
    }

    path = f"/deployments/{stage['id']}/create_flow_run"
    wrong = {"parameters": {"profile": {"name": "demo", "sample": {"resolution": 0}}}}
    assert served.request("POST", path, wrong).status_code == 409
    unknown = {"parameters": {"profile": {"name": "demo", "plan": {"head": 1}}}}
    failed = served.post(path, unknown)["id"]
    profile = {"name": "one", "extends": "demo", "plan": {"heads": 2}, "set": ["sample.previews.azimuths=8"]}
    wanted = {"parameters": {"profile": profile, "heads": "1"}, "idempotency_key": "one"}
    run = served.post(path, wanted)["id"]
    assert until(final_state(served, run)) == "COMPLETED"
    run_summary = summary(tmp_path / "one")
    assert run_summary["stages"]["sample"]["made"] == 1
    assert run_summary["heads"]["asked"] == 2
    assert run_summary["parameters"]["views"] == load_profile("demo").views.model_dump(mode="json")
    assert until(final_state(served, failed)) == "FAILED"
    assert "did you mean plan.heads" in served.get(f"/flow_runs/{failed}")["state"]["message"]

    shown = until(lambda: artifacts_of(served, run, "outcome"))
    assert "| sample | 1 | 0 |" in shown["outcome"]["data"]
    assert "data:image/webp;base64," in shown["pictures-sample"]["data"]
    assert shown["progress-sample"]["data"] == 100.0

    (tmp_path / "one" / "report.html").write_text("<p>a report</p>")
    base = served.url.removesuffix("/api")
    assert httpx.get(f"{base}/files/one/report.html").text == "<p>a report</p>"
    for hidden in ("one/store/tmp", ".prefect/prefect.db", ".prefect/serving.json", "one/run.txt"):
        assert httpx.get(f"{base}/files/{hidden}").status_code == 404


def test_a_server_with_a_password(tmp_path):
    """The server's own client signs in, so the deployments are there; nobody else is let in without the password."""
    with serving(tmp_path, auth=("ops", "a:b c")) as api:
        until(lambda: deployments(api, "demo"))
        (tmp_path / "report.html").write_text("secret")
        stranger = httpx.post(f"{api.url}/deployments/filter", json={})
        page = f"{api.url.removesuffix('/api')}/files/report.html"
        pages = [httpx.get(page, auth=auth) for auth in (None, ("ops", "wrong"), ("ops", "a:b c"))]
    assert stranger.status_code == 401
    assert [each.status_code for each in pages] == [401, 401, 200]
    assert pages[2].text == "secret"


def test_a_server_for_other_machines(tmp_path):
    """On all networks the UI is reached at any address, asks for the password, and uses that address itself."""
    with serving(tmp_path, auth=("ops", "a:b c"), host="0.0.0.0") as api:
        until(lambda: deployments(api, "demo"))
        elsewhere = api.url.replace("127.0.0.1", "127.0.0.2")
        assert httpx.post(f"{elsewhere}/deployments/filter", json={}).status_code == 401
        with ThreadPoolExecutor(1) as own_thread:  # playwright's loop would stop Prefect's functions from working
            own_thread.submit(_sign_in, elsewhere.removesuffix("/api")).result()


def _sign_in(address: str) -> None:
    with launched() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(1000 * LIMIT_S)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/deployments")
        page.locator("input[type=password], input").first.fill("ops:a:b c")
        page.get_by_role("button").filter(has_text="Login").click()
        page.get_by_text("demo-mesh").first.wait_for()
        assert [url for url in asked if url.startswith("http") and not url.startswith(address)] == []
