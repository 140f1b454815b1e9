"""Trainings that are asked to end by SIGTERM, in one process and in those of a launcher, on a real server."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName
from prefect.client.schemas.sorting import ArtifactSort, TaskRunSort

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.flows.training import training_flow
from spinmeround.storage.checkpoints import Checkpoints
from tests.e2e.conftest import TINY, write_profile
from tests.e2e.runs import spinmeround, summary
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("server")
STEPS = 60
LONG = 5 * STEPS
"""Some twenty seconds: a busy machine takes a few to pass a signal on to all processes of a command."""


def training(steps: int = STEPS, **changes: Any) -> dict[str, Any]:
    """The section of a training of the last phase alone, with a record of each step and no checkpoint but the last."""
    train = {**TINY["train"], "batch": 2, "record_every": 1, "checkpoint_every": 10 * steps, **changes}
    phases = {"adapt": 0, "single_view": 0, "multi_view": steps}
    return {**train, **{name: {**train[name], "steps": steps} for name, steps in phases.items()}}


def dedicated_worker(runs: Path) -> psutil.Process:
    """The process that this one trains in, once it has taken a step."""
    until(lambda: any(file.stat().st_size for file in runs.glob("tiny/training/*/metrics.jsonl")))
    children = psutil.Process().children()
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return max(workers, key=lambda child: child.create_time())


def recorded_steps(runs: Path) -> list[int]:
    """The steps in the metrics of the result."""
    metrics = Path(summary(runs / "tiny")["training"]["pipeline"]).parent / "metrics.jsonl"
    return [json.loads(line)["step"] for line in metrics.read_text().splitlines()]


def attempts() -> int:
    """How often the newest task run of the training was started."""
    named = TaskRunFilter(name=TaskRunFilterName(any_=["multi-view"]))
    with get_client(sync_client=True) as client:
        (newest, *_) = client.read_task_runs(task_run_filter=named, sort=TaskRunSort.EXPECTED_START_TIME_DESC)
    return newest.run_count


@pytest.mark.parametrize(
    "processes", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two of torchrun"]
)
def test_the_task_run_resumes(tiny: Callable[..., Profile], built: Path, processes: int) -> None:
    """SIGTERM to the process that trains: its task run starts again, and takes the steps that remain. The UI has
    all of the progress, the last metrics and a picture."""
    launch = {"launch": {"launcher": "torchrun", "processes": processes}} if processes > 1 else {}
    profile = tiny(train=training(**launch))
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(lambda: dedicated_worker(built).send_signal(signal.SIGTERM))
        sized(training_flow, profile)(profile, Place(runs=str(built)))
    sent.result()
    assert recorded_steps(built) == list(range(1, STEPS + 1))
    until(lambda: attempts() == 2)
    with get_client(sync_client=True) as client:
        newest_last = reversed(client.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=100))
        found = {each.key: each.data for each in newest_last}
    assert found["progress-multi-view"] == 100
    assert json.loads(found["training-metrics"])[0]["step"] == STEPS
    assert found["training-loss"].startswith("![Loss by step](data:image/svg+xml;base64,")


@pytest.mark.slow
@pytest.mark.parametrize("launch", [[], ["--launch", "torchrun", "--nproc", "2"]], ids=["one process", "torchrun"])
def test_the_next_command_resumes(
    tiny: Callable[..., Profile], built: Path, tmp_path: Path, environment: dict[str, str], launch: list[str]
) -> None:
    """SIGTERM to the command: it leaves a checkpoint and fails with a message of its own and no traceback, no process
    outlives it, and the next one resumes."""
    profile = write_profile(tiny(train=training(LONG)), tmp_path / "tiny.toml")
    command = ["train", "--profile", str(profile), "--runs", str(built), *launch]
    main = spinmeround(*command, environment=environment)
    until(lambda: any(file.stat().st_size for file in built.glob("tiny/training/*/metrics.jsonl")))
    family = psutil.Process(main.pid).children(recursive=True)
    os.kill(main.pid, signal.SIGTERM)
    output, errors = main.communicate()
    assert main.returncode != 0, (output, errors)
    assert "was asked to end" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    (folder,) = built.glob("tiny/training/*/")
    (step,) = Checkpoints(folder).steps()
    assert 0 < step < LONG
    again = spinmeround(*command, environment=environment)
    output, errors = again.communicate()
    assert again.returncode == 0, (output, errors)
    assert recorded_steps(built) == list(range(1, LONG + 1))
    if launch:
        assert "torch.distributed.run --nproc-per-node=2" in errors
