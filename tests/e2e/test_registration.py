"""Deployments that are registered again keep what people have set, on a real server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from spinmeround.flows.report import report_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.server.registration import keep_changes, versioned


def registered(name: str, parameters: dict[str, Any]) -> DeploymentResponse:
    """Register a deployment as `serve` does; returns what the server has afterwards.

    In a thread of its own: where a loop runs, as a browser of another test leaves one, Prefect's functions are
    coroutines.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_registered, name, parameters).result()


def _registered(name: str, parameters: dict[str, Any]) -> DeploymentResponse:
    made = report_flow.to_deployment(
        name=name,
        parameters=parameters,
        version=versioned(parameters),
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["ours"],
    )
    assert isinstance(made, RunnerDeployment)
    with get_client(sync_client=True) as client:
        keep_changes([made], client)
        made.apply()
        return client.read_deployment_by_name(made.full_name)


def place(runs: Path) -> dict[str, Any]:
    return {"place": Place(runs=str(runs)).model_dump()}


@pytest.fixture
def commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a job that knows its commit, from which Prefect infers the version of a deployment."""
    for name in ("GITHUB_SHA", "GITHUB_REF_NAME", "GITHUB_REPOSITORY", "GITHUB_SERVER_URL"):
        monkeypatch.setenv(name, "0123456789abcdef")


def test_what_people_set_survives(server: str, tmp_path: Path, commit: None) -> None:
    """A schedule with its own parameters, a limit, a pause, a tag, a description and changed parameters."""
    first = registered("kept", place(tmp_path))
    assert (first.schedules, first.paused, first.parameters) == ([], False, place(tmp_path))
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *", timezone="Europe/Athens"), active=True)
    with get_client(sync_client=True) as client:
        client.create_deployment_schedules(first.id, [(schedule.schedule, True)])
        mine = place(tmp_path / "mine")
        changed = DeploymentUpdate(
            paused=True, concurrency_limit=2, tags=["theirs"], description="nightly", parameters=mine
        )
        client.update_deployment(first.id, changed)
    second = registered("kept", place(tmp_path))
    assert second.id == first.id
    assert [(each.schedule.cron, each.schedule.timezone, each.active) for each in second.schedules] == [
        ("0 3 * * *", "Europe/Athens", True)
    ]
    assert second.global_concurrency_limit is not None
    assert second.global_concurrency_limit.limit == 2
    assert (second.paused, second.tags, second.description) == (True, ["theirs"], "nightly")
    assert second.parameters == mine
    assert registered("kept", place(tmp_path)).parameters == mine


def test_new_defaults_replace_old_ones_that_nobody_changed(server: str, tmp_path: Path) -> None:
    """A profile of a newer version arrives, and after it the next."""
    for version in ("one", "two", "three"):
        assert registered("fresh", place(tmp_path / version)).parameters == place(tmp_path / version)
