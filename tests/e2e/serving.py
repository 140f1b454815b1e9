"""`spinmeround serve` in a process of its own, and a client of its API."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from spinmeround.flows.server.process import free_port
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
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


@contextmanager
def serving(tmp_path: Path, auth: tuple[str, str] | None = None, host: str = "127.0.0.1") -> Iterator[Api]:
    """`spinmeround serve` on an address, with basic authentication if a name and a password are given."""
    port = free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    if auth is not None:
        own["PREFECT_SERVER_API_AUTH_STRING"] = ":".join(auth)
    command = ["serve", "--runs", str(tmp_path), "--port", str(port), "--host", host]
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


def deployments(api: Api, tag: str) -> dict[str, Any]:
    """The deployments with a tag by name, once all of them are there."""
    found = api.post("/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}})
    return {each["name"]: each for each in found} if len(found) >= len(NAMES) else {}


def artifacts_of(api: Api, run: str, key: str) -> dict[str, Any]:
    """The artifacts of a flow run by key, once the one with this key is there."""
    found = api.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    artifacts = {each["key"]: each for each in found}
    return artifacts if key in artifacts else {}


def final_state(api: Api, run: str) -> Callable[[], str | None]:
    def state() -> str | None:
        found: str = api.get(f"/flow_runs/{run}")["state_type"]
        return found if found in FINAL else None

    return state
