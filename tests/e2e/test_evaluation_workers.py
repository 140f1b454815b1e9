"""An evaluation over the workers of a run: the table of one worker, and resumed head by head after a kill."""

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from spinmeround.flows.evaluation import evaluation_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.flows.training import training_flow
from tests.e2e.conftest import write_profile
from tests.e2e.runs import artifacts, build, counts, spinmeround, summary
from tests.support.waiting import LIMIT_S, until

pytestmark = pytest.mark.usefixtures("server")
FILES = ("evaluation.json", "pictures.npz")


def of_heads(store: Path) -> list[Path]:
    return [folder for folder in artifacts(store) if folder.parent.parent.name == "evaluate-head"]


def results(store: Path) -> dict[str, bytes]:
    """The files of the one evaluation of a store."""
    (found,) = (folder for folder in artifacts(store) if folder.parent.parent.name == "evaluate")
    return {name: next(found.rglob(name)).read_bytes() for name in FILES}


def forget(store: Path) -> None:
    """Remove all evaluations and their heads."""
    for stage in ("evaluate", "evaluate-head"):
        shutil.rmtree(store / stage)


def test_two_workers_and_a_killed_run_give_the_table_of_one(tiny, tmp_path, environment):
    """All bytes are equal; after SIGKILL only the missing heads are made; no process outlives the run."""
    steps = {"heads": 4, "targets": 3, "frontal_targets": 1, "schedule": {"steps": 20}}
    profile = tiny(plan={"heads": 12}, publish={"validation_share": 0.0, "test_share": 0.4}, evaluate=steps)
    place, store = Place(runs=str(tmp_path)), tmp_path / "tiny" / "store"
    build(profile, tmp_path)
    sized(training_flow, profile)(profile, place)
    sized(evaluation_flow, profile)(profile, place)
    one, heads = results(store), len(of_heads(store))
    assert heads >= 3

    forget(store)
    two = profile.model_copy(update={"execution": profile.execution.model_copy(update={"workers": 2})})
    sized(evaluation_flow, two)(two, place)
    assert results(store) == one
    assert counts(summary(tmp_path / "tiny"))["evaluate"] == (1, 0)

    forget(store)
    command = ["evaluate", "--profile", str(write_profile(two, tmp_path / "two.toml")), "--runs", str(tmp_path)]
    main = spinmeround(*command, environment=environment)
    until(lambda: len(of_heads(store)) >= 1 or main.poll() is not None, interval_s=0.01)
    family = psutil.Process(main.pid).children(recursive=True) if main.poll() is None else []
    os.kill(main.pid, signal.SIGKILL)
    main.communicate()
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert alive == []
    left = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in of_heads(store)}
    assert left
    sized(evaluation_flow, two)(two, place)
    assert results(store) == one
    after = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in of_heads(store)}
    assert len(after) == heads
    assert left.items() <= after.items()
