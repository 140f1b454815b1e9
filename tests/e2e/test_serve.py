"""`spinmeround serve`: what a person in the UI finds, and that it runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spinmeround.flows.server.process import free_port
from tests.e2e.runs import summary

PATIENCE_S = 180


def until(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """What the condition gives once it is true, while the process lives."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        if found := condition():
            return found
        time.sleep(0.2)
    pytest.fail("it took too long")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A client of the API of `spinmeround serve` on the runs of `tmp_path`, once it serves, and its process."""
    port = free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = ["serve", "--runs", str(tmp_path), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", *command],
        env=own | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until((tmp_path / ".prefect" / "serving.json").is_file, process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as client:
            yield client, process
    finally:
        process.terminate()  # a shell's background jobs ignore SIGINT, and so do their children
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
    assert not (tmp_path / ".prefect" / "serving.json").exists()


def test_a_stage_started_in_the_ui(served, tmp_path):
    """All flows are deployments, their forms know the profile's fields, and a run that is asked for completes."""
    client, process = served
    deployments = {
        each["entrypoint"].rpartition(".")[2]: each
        for each in until(lambda: len(_deployments(client, "demo")) == 8 and _deployments(client, "demo"), process)
    }
    names = ("workflow", "dataset", "training", "evaluation", "report", "stage", "generation", "calibration")
    assert set(deployments) == {f"{name}_flow" for name in names}
    assert not _deployments(client, "panohead")

    stage = deployments["stage_flow"]
    schema = stage["parameter_openapi_schema"]
    assert "level" in _resolved(schema, "profile", "mesh")["properties"]
    assert "mesh" in schema["properties"]["stage"]["enum"]

    profile = {**stage["parameters"]["profile"], "plan": {"first_seed": 0, "heads": 1}, "name": "one"}
    wrong = {"parameters": {**stage["parameters"], "stage": "sculpt"}}
    assert client.post(f"/deployments/{stage['id']}/create_flow_run", json=wrong).status_code == 409
    asked = {"parameters": {**stage["parameters"], "profile": profile}}
    run = client.post(f"/deployments/{stage['id']}/create_flow_run", json=asked).raise_for_status().json()["id"]
    state = until(lambda: _final(client.get(f"/flow_runs/{run}").raise_for_status().json()), process)
    assert state == "COMPLETED"
    assert summary(tmp_path / "one")["stages"]["sample"]["made"] == 1


def _deployments(client: httpx.Client, tag: str) -> list[dict[str, Any]]:
    asked = {"deployments": {"tags": {"all_": [tag]}}}
    return list(client.post("/deployments/filter", json=asked).raise_for_status().json())


def _resolved(schema: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The model of a nested field of a form."""
    found = schema
    for field in fields:
        found = found["properties"][field]
        name = found.get("$ref") or found["allOf"][0]["$ref"]
        found = schema["definitions"][name.rpartition("/")[2]]
    return found


def _final(run: dict[str, Any]) -> str | None:
    return run["state_type"] if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None
