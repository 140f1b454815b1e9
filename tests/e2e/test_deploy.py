"""`spinmeround deploy`: deployments on a work pool, whose worker runs a stage."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from spinmeround.flows.server.deploying import DeploymentEntry, LimitEntry, ScheduleEntry
from tests.e2e.runs import spinmeround, summary
from tests.support.waiting import LIMIT_S

NIGHTLY, WEEKLY = ScheduleEntry(cron="0 3 * * *"), ScheduleEntry(rrule="FREQ=WEEKLY")


def crons(name: str) -> dict[str, bool]:
    """Schedules of a deployment, and whether they are active."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(name).schedules
    rules = [getattr(each.schedule, "cron", None) or each.schedule.rrule.splitlines()[-1] for each in found]
    return {rule: each.active for rule, each in zip(rules, found, strict=True)}


def deployed(runs: Path, environment: dict[str, str], file: Path, *schedules: ScheduleEntry) -> str:
    """Deploy with these schedules of demo-dataset; returns what the command prints."""
    import yaml

    entry = DeploymentEntry(name="demo-dataset", schedules=schedules, concurrency_limit=LimitEntry(limit=1))
    file.write_text(yaml.safe_dump({"deployments": [entry.model_dump(mode="json")]}), encoding="utf-8")
    process = spinmeround(
        "deploy", "--pool", "tests", "--runs", str(runs), "--file", str(file), environment=environment
    )
    output, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    return output


@pytest.fixture
def home(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment with a home of its own, so that no settings of the tests' server are shared."""
    return {**environment, "PREFECT_HOME": str(tmp_path / "home")}


def test_schedules_of_the_file_and_of_people(server: str, home: dict[str, str], tmp_path: Path) -> None:
    """A schedule that is no longer in the file goes; one that a person paused stays paused; a person's own stays."""
    from prefect.client.schemas.schedules import CronSchedule

    file = tmp_path / "prefect.yaml"
    assert "prefect worker start --pool tests" in deployed(tmp_path, home, file, NIGHTLY, WEEKLY)
    name = "dataset/demo-dataset"
    assert crons(name) == {"0 3 * * *": True, "FREQ=WEEKLY": True}
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(name)
        assert found.global_concurrency_limit is not None
        assert found.global_concurrency_limit.limit == 1
        nightly = next(each for each in found.schedules if isinstance(each.schedule, CronSchedule))
        client.update_deployment_schedule(found.id, nightly.id, active=False)
        client.create_deployment_schedules(found.id, [(CronSchedule(cron="0 5 * * *"), True)])
    deployed(tmp_path, home, file, NIGHTLY)
    assert crons(name) == {"0 3 * * *": False, "0 5 * * *": True}

    with get_client(sync_client=True) as client:
        stage = client.read_deployment_by_name("stage/demo-sample")
        profile = {"name": "one", "extends": "demo", "plan": {"heads": 1}, "set": ["sample.previews.azimuths=8"]}
        run = client.create_flow_run_from_deployment(stage.id, parameters={"profile": profile})
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "tests", "--run-once"]
    subprocess.run(command, env=home, check=True, capture_output=True, timeout=LIMIT_S)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.type == StateType.COMPLETED, state.message
    assert summary(tmp_path / "one")["stages"]["sample"]["made"] == 1
