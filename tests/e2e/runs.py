"""Operations of the end-to-end tests on runs: build, copy, read the summary, query the server's records."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactCollectionFilter,
    ArtifactCollectionFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.sorting import FlowRunSort

from spinmeround.flows.dataset import dataset_flow
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from tests.support.waiting import LIMIT_S


def build(profile: Profile, runs: Path, **options: Any) -> dict[str, Any]:
    """Build a profile's dataset below `runs`; returns the run's summary."""
    sized(dataset_flow, profile)(profile, Place(runs=str(runs), **options))
    return summary(runs / profile.name)


def copy_runs(runs: Path, to: Path) -> Path:
    """A copy of a folder of runs in which files that share their content by hard links still do."""
    subprocess.run(["cp", "-a", str(runs), str(to)], check=True)
    return to


def spinmeround(*arguments: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def artifacts(store: Path) -> list[Path]:
    """Folders of all complete artifacts of a store, as of now."""
    return [manifest.parent for manifest in store.glob("*/??/*/manifest.json")]


def summary(folder: Path) -> dict[str, Any]:
    """The summary of the run in `folder`."""
    return json.loads((folder / "summary.json").read_text())


def counts(found: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """(made, reused) by stage."""
    return {name: (stage["made"], stage["reused"]) for name, stage in found["stages"].items()}


def recorded(flow_name: str, expected: int) -> dict[str, str]:
    """Names and states of the task runs of a flow's newest run, once `expected` of them have ended."""
    deadline = time.monotonic() + LIMIT_S
    states: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=20)
        flows = {run.id: client.read_flow(run.flow_id).name for run in runs}
        newest = FlowRunFilter(id=FlowRunFilterId(any_=[next(run.id for run in runs if flows[run.id] == flow_name)]))
        while time.monotonic() < deadline:
            found = client.read_task_runs(flow_run_filter=newest)
            states = {run.name: run.state.name for run in found if run.state is not None and run.state.is_final()}
            if len(states) >= expected:
                return states
            time.sleep(0.5)
    return states


def artifact_of(key: str) -> str:
    """The data of the newest artifact with this key on the server."""
    with get_client(sync_client=True) as client:
        found = client.read_latest_artifacts(
            artifact_filter=ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[key])), limit=1
        )
    return str(found[0].data)
