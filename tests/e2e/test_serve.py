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

from spinmeround.flows.server.process import free_port
from tests.e2e.runs import summary
from tests.support.waiting import LIMIT_S, until

FLOWS = (
    "workflow",
    "dataset",
    "training",
    "evaluation",
    "ablation",
    "promotion",
    "retraining",
    "report",
    "stage",
    "generation",
    "reconstruction",
    "calibration",
)
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
    """Every flow is a deployment whose form has the profile's fields; invalid values are rejected, a run completes."""
    deployments = until(lambda: _deployments(served, "demo", len(FLOWS)))
    assert set(deployments) == {f"{name}_flow" for name in FLOWS}
    assert not _deployments(served, "panohead", 0)

    stage = deployments["stage_flow"]
    schema = stage["parameter_openapi_schema"]
    assert "level" in _resolved(schema, "profile", "mesh")["properties"]
    assert "mesh" in schema["properties"]["stage"]["enum"]

    path = f"/deployments/{stage['id']}/create_flow_run"
    wrong = {"parameters": {**stage["parameters"], "stage": "sculpt"}}
    assert served.request("POST", path, wrong).status_code == 409
    profile = {**stage["parameters"]["profile"], "plan": {"first_seed": 0, "heads": 1}, "name": "one"}
    wanted = {"parameters": {**stage["parameters"], "profile": profile}, "idempotency_key": "one"}
    run = served.post(path, wanted)["id"]
    assert until(_final_state(served, run)) == "COMPLETED"
    assert summary(tmp_path / "one")["stages"]["sample"]["made"] == 1


def test_a_server_with_a_password(tmp_path):
    """The server's own client signs in, so the deployments are there; nobody else is let in without the password."""
    with serving(tmp_path, auth=("ops", "a:b c")) as api:
        until(lambda: _deployments(api, "demo", len(FLOWS)))
        stranger = httpx.post(f"{api.url}/deployments/filter", json={})
    assert stranger.status_code == 401


def _deployments(api: Api, tag: str, expected: int) -> dict[str, Any]:
    """The deployments with a tag by the name of their flow's function, once there are `expected` ones."""
    found = api.post("/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}})
    return {each["entrypoint"].rpartition(".")[2]: each for each in found} if len(found) >= expected else {}


def _final_state(api: Api, run: str) -> Callable[[], str | None]:
    def state() -> str | None:
        found: str = api.get(f"/flow_runs/{run}")["state_type"]
        return found if found in FINAL else None

    return state


def _resolved(schema: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The model of a nested field of a form."""
    found = schema
    for field in fields:
        found = found["properties"][field]
        name = found.get("$ref") or found["allOf"][0]["$ref"]
        found = schema["definitions"][name.rpartition("/")[2]]
    return found
