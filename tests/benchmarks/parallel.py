"""How a stage divides among workers, and among builds on one store: a generator that sleeps, so no core is needed.

Each build runs the stage `sample` in a process of its own; its workers have started before the time is taken. Two
builds begin together, and each makes what the other has not begun.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.records import Identity, Rendering
from tests.benchmarks.scale import Ellipsoids

ROOT = Path(__file__).parents[2]
_READY, _GO = "ready", "go"


class Sleeping(Ellipsoids):
    """Ellipsoids of which each rendering takes `seconds`, without computing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        time.sleep(self._seconds)
        return super().render(identity, cameras, resolution)


def main(
    heads: Annotated[int, typer.Option(min=4, help="Number of heads.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.0, help="Seconds that the generator sleeps for each head.")] = 1.0,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Workers; repeatable. Default: 1, 2, 4.")] = None,
    builds: Annotated[int, typer.Option(min=1, help="Builds at once, of one worker each.")] = 2,
    folder: Annotated[Path, typer.Option(help="Folder of the runs, which is emptied.")] = Path("runs/bench-parallel"),
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Time of one stage with these numbers of workers, and of several builds on one store, against one worker."""
    folder = folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    rows = [
        _measure(folder / f"{count}-workers", heads, seconds, count, builds=1)
        for count in dict.fromkeys([1, *(workers or (2, 4))])
    ]
    rows.append(_measure(folder / f"{builds}-builds", heads, seconds, 1, builds=builds))
    for row in rows:
        row["speed-up"] = rows[0]["seconds"] / row["seconds"]
        row["of the ideal"] = row["speed-up"] / (row["workers"] * row["builds"])
    shutil.rmtree(folder, ignore_errors=True)
    return {f"{heads} heads of {seconds:g} s each": rows}


def _measure(folder: Path, heads: int, seconds: float, workers: int, *, builds: int) -> dict[str, Any]:
    """Run the builds on one store, from the moment when the workers of all are ready."""
    places = [folder / str(number) for number in range(builds)]
    running = []
    for place in places:
        place.mkdir(parents=True)
        job = {
            "heads": heads,
            "seconds": seconds,
            "workers": workers,
            "place": str(place),
            "store": str(folder / "store"),
        }
        with (place / "log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.benchmarks._parallel_build", json.dumps(job)],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                )
            )
    while not all((place / _READY).exists() for place in places):
        if any(process.poll() is not None for process in running):
            break
        time.sleep(0.1)
    (folder / _GO).touch()
    if any(process.wait() for process in running):
        raise SpinMeRoundError(f"a build failed; see the logs in {folder}")
    found = [json.loads((place / "result.json").read_text()) for place in places]
    made = [each["made"] for each in found]
    if sum(made) != heads:
        raise SpinMeRoundError(f"expected {heads} heads, each made once, found {made} made by the builds; see {folder}")
    return {
        "workers": workers,
        "builds": builds,
        "seconds": max(each["end"] for each in found) - min(each["begin"] for each in found),
        "made": " + ".join(map(str, made)),
    }
