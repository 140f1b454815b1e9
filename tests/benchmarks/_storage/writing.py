"""The cost of writing: views per second of the dataset's encoding, and its share in the stages of a head."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from spinmeround.storage.dataset import write_head
from spinmeround.storage.records import HeadArrays
from tests.benchmarks._storage.heads import STAGES, WorkingSet
from tests.benchmarks._storage.pictures import ARRAYS, encode

VIEWS = 125
"""Views of the head in the table of stages."""

_held: list[HeadArrays] = []

Seconds = tuple[float, float]
"""Wall-clock time and CPU time."""


def writing_speed(working: WorkingSet, processes: int, pixels: int, views: int) -> dict[str, list[dict[str, Any]]]:
    """Tables of the encoders' speed, in one and in all processes, and of the time of each stage for one head."""
    head, stages = staged(WorkingSet(**{**vars(working), "pixels": pixels, "views": views}))
    folder = working.folder.parent / "written"
    alone, png = timed(lambda: write(folder, head, 0)), timed(lambda: write_png(head))
    with ProcessPoolExecutor(processes, get_context("spawn"), hold, (head,)) as pool:
        list(pool.map(partial(write_held, folder), range(4 * processes)))  # starts all processes
        together = timed(lambda: list(pool.map(partial(write_held, folder), range(8 * processes))))
    shutil.rmtree(folder, ignore_errors=True)
    stages["encoding"] = alone
    scaled = {name: clock * (1 if name == "mesh" else VIEWS / views) for name, (clock, _) in stages.items()}
    shares = [
        {"stage": name, "seconds": clock, "share [%]": 100 * clock / sum(scaled.values())}
        for name, clock in scaled.items()
    ]
    return {
        f"writing at {pixels} px: views per second (RGB, normals, mask)": [
            {"writer": "ours, 1 process", "views per second": views / alone[0], "cores busy": alone[1] / alone[0]},
            {"writer": f"ours, {processes} processes", "views per second": 8 * processes * views / together[0]},
            {"writer": "PNG of RGB and normals, 1 process", "views per second": views / png[0]},
        ],
        f"a head of the procedural generator, {VIEWS} views at {pixels} px, one core": shares,
    }


def staged(working: WorkingSet) -> tuple[HeadArrays, dict[str, Seconds]]:
    """A head, and the time of each of its stages."""
    made: dict[str, Any] = {}
    seconds = {}
    for name, stage in STAGES.items():
        seconds[name] = timed(lambda stage=stage: made.update(stage(working, made)))
    return working.vary(0, made), seconds


def write(folder: Path, head: HeadArrays, number: int) -> None:
    shutil.rmtree(folder / str(number), ignore_errors=True)
    write_head(folder / str(number), head)


def hold(head: HeadArrays) -> None:
    """Store the head in a process of the pool, so that the measurement does not include sending it."""
    _held.append(head)


def write_held(folder: Path, number: int) -> None:
    """Write the head that this process of the pool stores."""
    write(folder, _held[0], number)


def write_png(head: HeadArrays) -> None:
    for name in ARRAYS:
        for picture in getattr(head, name):
            encode(picture, "png")


def timed(work: Callable[[], Any]) -> Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor
