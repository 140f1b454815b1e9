"""`spinmeround serve`: deployments of all flows, whose forms know the profile's fields and whose runs complete."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.flows.server.process import free_port
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from tests.e2e.runs import summary
from tests.support.waiting import LIMIT_S, until

FLOWS = (
    "workflow",
    "dataset",
    "training",
    "evaluation",
    "ablation",
    "report",
    "calibration",
    "generation",
    "reconstruction",
)
NAMES = {f"demo-{name}" for name in (*FLOWS, *STAGES_BY_NAME)}
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
BUSY = (429, 502, 503)
"""Answers of a server that is too busy, for instance because its database is locked."""


class Api:
    """Client of a server's API that repeats requests while the server is busy, and fails if its process ends."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", auth: tuple[str, str] | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=60, auth=auth)
        self.url, self._process = url, process

    def request(self, method: str, path: str, json: Any = None) -> httpx.Response:
        """The first answer that is not BUSY. A repeated POST of a run carries the same idempotency key."""

        def attempt() -> httpx.Response | None:
            assert self._process.poll() is None, "the server ended"
            try:
                answer = self._client.request(method, path, json=json)
            except httpx.TransportError:
                return None
            return None if answer.status_code in BUSY else answer

        return until(lambda: (answer := attempt()) is not None and [answer])[0]

    def get(self, path: str) -> Any:
        return self.request("GET", path).raise_for_status().json()

    def post(self, path: str, json: Any) -> Any:
        return self.request("POST", path, json).raise_for_status().json()

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Api]:
    """The API of `spinmeround serve` on the runs of `tmp_path`, once it serves."""
    with serving(tmp_path) as api:
        yield api


@contextmanager
def serving(tmp_path: Path, auth: tuple[str, str] | None = None) -> Iterator[Api]:
    """`spinmeround serve`, with basic authentication if a name and a password are given."""
    port = free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    if auth is not None:
        own["PREFECT_SERVER_API_AUTH_STRING"] = ":".join(auth)
    command = ["serve", "--runs", str(tmp_path), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", *command],
        env=own | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    api = Api(f"http://127.0.0.1:{port}/api", process, auth)
    try:
        until(lambda: (tmp_path / ".prefect" / "serving.json").is_file() or process.poll() is not None)
        yield api
    finally:
        api.close()
        process.terminate()  # not SIGINT: background jobs of a shell, and their children, ignore it
        try:
            process.wait(LIMIT_S)
        finally:
            process.kill()
    assert not (tmp_path / ".prefect" / "serving.json").exists()


def test_a_stage_started_in_the_ui(served, tmp_path):
    """Each flow and stage has a form with the fields that it reads; invalid values are refused, a run completes."""
    deployments = until(lambda: _deployments(served, "demo"))
    assert set(deployments) == NAMES
    assert not served.post("/deployments/filter", {"deployments": {"tags": {"all_": ["panohead"]}}})

    stage = deployments["demo-sample"]
    fields = stage["parameter_openapi_schema"]["properties"]
    assert list(fields) == ["profile", "heads", "place"]
    assert set(fields["profile"]["properties"]) == {"name", "generator", "sample", "plan", "execution", "set"}

    path = f"/deployments/{stage['id']}/create_flow_run"
    wrong = {"parameters": {"profile": {"name": "demo", "sample": {"resolution": 0}}}}
    assert served.request("POST", path, wrong).status_code == 409
    unknown = {"parameters": {"profile": {"name": "demo", "plan": {"head": 1}}}}
    failed = served.post(path, unknown)["id"]
    profile = {"name": "one", "extends": "demo", "plan": {"heads": 2}, "set": ["sample.previews.azimuths=8"]}
    wanted = {"parameters": {"profile": profile, "heads": "1"}, "idempotency_key": "one"}
    run = served.post(path, wanted)["id"]
    assert until(_final_state(served, run)) == "COMPLETED"
    found = summary(tmp_path / "one")
    assert found["stages"]["sample"]["made"] == 1
    assert found["heads"]["asked"] == 2
    assert found["parameters"]["views"] == load_profile("demo").views.model_dump(mode="json")
    assert until(_final_state(served, failed)) == "FAILED"
    assert "did you mean plan.heads" in served.get(f"/flow_runs/{failed}")["state"]["message"]

    shown = until(lambda: _artifacts(served, run, "outcome"))
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
        until(lambda: _deployments(api, "demo"))
        (tmp_path / "report.html").write_text("secret")
        stranger = httpx.post(f"{api.url}/deployments/filter", json={})
        page = f"{api.url.removesuffix('/api')}/files/report.html"
        pages = [httpx.get(page, auth=auth) for auth in (None, ("ops", "wrong"), ("ops", "a:b c"))]
    assert stranger.status_code == 401
    assert [each.status_code for each in pages] == [401, 401, 200]
    assert pages[2].text == "secret"


def _deployments(api: Api, tag: str) -> dict[str, Any]:
    """The deployments with a tag by name, once all of them are there."""
    found = api.post("/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}})
    return {each["name"]: each for each in found} if len(found) >= len(NAMES) else {}


def _artifacts(api: Api, run: str, key: str) -> dict[str, Any]:
    """The artifacts of a flow run by key, once the one with this key is there."""
    found = api.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    artifacts = {each["key"]: each for each in found}
    return artifacts if key in artifacts else {}


def _final_state(api: Api, run: str) -> Callable[[], str | None]:
    def state() -> str | None:
        found: str = api.get(f"/flow_runs/{run}")["state_type"]
        return found if found in FINAL else None

    return state
