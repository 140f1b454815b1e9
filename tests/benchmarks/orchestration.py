"""What the orchestration costs: the same stages as plain function calls, as builds, and with nothing left to do.

Heads of negligible cost (ellipsoids of 8 pixels) go through all stages of a dataset, so what a build takes longer than
plain calls in one process is its overhead: worker processes, Prefect's task runs and requests, census and summary. The
second table repeats that with heads of the profile `demo`, whose cost is real. Each build is a `spinmeround build` with
one worker, in a process, server and folder of its own.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spinmeround.storage.errors import SpinMeRoundError
from tests.benchmarks._builds import ROOT, Watched, database_bytes, run_build, task_runs, write_profile

_PLAIN = """
import sys, time
from pathlib import Path
from spinmeround.flows.profile import load_profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import plan_session
from spinmeround.tasks.dataset.publish import publish
from spinmeround.tasks.heads.registry import DATASET_STAGES
profile = load_profile(sys.argv[1], sys.argv[3:])
session = plan_session(profile, Place(runs=sys.argv[2]))
began = time.perf_counter()
stages = [session.stages[stage.name] for stage in DATASET_STAGES]
for head in session.heads:
    keys = session.keys[head.id]
    for bound in stages:
        if not (bound.stage.gated and session.drop_reasons(head)):
            bound.make(session.store, head, {name: keys[name] for name in bound.stage.inputs})
kept, _ = session.census()
publish(session.store, kept, session.keys, profile.views.cameras(), {}, session.folder.datasets)
print(time.perf_counter() - began)
"""


def main(
    heads: Annotated[int, typer.Option(min=1, help="Number of ellipsoids.")] = 512,
    demo_heads: Annotated[int, typer.Option(min=0, help="Number of heads of the profile demo; 0 for none.")] = 24,
    folder: Annotated[Path, typer.Option(help="Folder of the runs; the benchmark empties it.")] = Path(
        "runs/bench-orchestration"
    ),
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the overhead of a build over plain function calls."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables = {f"{heads} ellipsoids": _compared(str(write_profile(folder, heads)), [], heads, folder / "tiny")}
    if demo_heads:
        options = [f"plan.heads={demo_heads}"]
        tables[f"{demo_heads} heads of the profile demo"] = _compared("demo", options, demo_heads, folder / "demo")
    return tables


def _compared(profile: str, overrides: Sequence[str], heads: int, folder: Path) -> list[dict[str, Any]]:
    """Rows: plain calls, a build, and the same build again."""
    plain_s = _plain(profile, overrides, folder / "plain")
    runs = folder / "build"
    runs.mkdir(parents=True)
    changes = [part for override in overrides for part in ("--set", override)]
    command = ["build", "--profile", profile, "--runs", str(runs), "--workers", "1", *changes]
    rows = [{"way": "plain calls", "seconds": plain_s, "ms per head": 1000 * plain_s / heads}]
    runs_before = size_before = 0
    for way in ("build", "build again"):
        watched = run_build(command, runs / f"{way.replace(' ', '-')}.log")
        runs_after, _, work_s = task_runs(runs)
        size = database_bytes(runs)
        rows.append(
            _row(way, watched, heads)
            | (
                {"overhead, ms per head": 1000 * (work_s - plain_s) / heads, "first to last task run, s": work_s}
                if way == "build"
                else {}
            )
            | {"task runs": runs_after - runs_before, "database, MB": (size - size_before) / 2**20}
        )
        runs_before, size_before = runs_after, size
    return rows


def _row(way: str, watched: Watched, heads: int) -> dict[str, Any]:
    return {
        "way": way,
        "seconds": watched.seconds,
        "ms per head": 1000 * watched.seconds / heads,
        "CPU ms per head": 1000 * sum(watched.cpu_s.values()) / heads,
        "requests": watched.requests,
    }


def _plain(profile: str, overrides: Sequence[str], runs: Path) -> float:
    """Seconds of plain calls of all stages for all heads in one process, without its start."""
    command = [sys.executable, "-c", _PLAIN, profile, str(runs), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SpinMeRoundError(f"plain calls of {profile}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))
