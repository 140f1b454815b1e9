"""Builds of many heads of negligible cost, by the command line in a process of its own, and what they used."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import perf_counter

import psutil

from spinmeround.storage.errors import SpinMeRoundError
from tests.support.weights import write_autoencoder, write_recognition

ROOT = Path(__file__).parents[2]
_SAMPLE_S = 0.1
_COMMAND = """
import atexit, httpx, os
from pathlib import Path
sent = []
def counted(kind):
    send = kind.send
    def counting(self, request, **options):
        sent.append(request.url)
        return send(self, request, **options)
    kind.send = counting
counted(httpx.Client)
counted(httpx.AsyncClient)
atexit.register(lambda: Path(os.environ["REQUESTS"]).write_text(str(len(sent)), encoding="utf-8"))
from spinmeround.flows.cli.app import main
main()
"""
"""The command line, which leaves the number of its HTTP requests in the file of the variable REQUESTS."""
_SERVER = "spinmeround.flows.server.process"

PROFILE = """
extends = "demo"
screen = {{}}
[generator]
name = "tests.benchmarks.scale:Ellipsoids"
[plan]
heads = {heads}
[views]
azimuths = 2
elevations_deg = [0.0]
[sample]
resolution = 8
previews = {{ azimuths = 2, elevations_deg = [0.0] }}
[score]
cells = 32
recognition = "none"
[render]
resolution = 8
[mesh]
resolution = 16
[embed]
recognition = {recognition}
[encode]
autoencoder = {autoencoder}
[train]
unet = {{ sample_size = 2, latent_channels = 4, views = 2, block_out_channels = [8, 8], attention_heads = 2, \
attention_levels = [true, false], multiview_factors = [1], norm_groups = 4 }}
single_view.groups = [{{ conditioning = 1, targets = 1 }}]
multi_view.groups = [{{ conditioning = 0, targets = 2 }}, {{ conditioning = 1, targets = 1 }}]
[evaluate]
targets = 1
frontal_targets = 1
"""


def write_profile(folder: Path, heads: int) -> Path:
    """The file of a profile of this many ellipsoids, with random networks beside it."""
    weights = {
        "recognition": write_recognition(folder / "recognition.onnx"),
        "autoencoder": write_autoencoder(folder / "autoencoder"),
    }
    profile = folder / "scale.toml"
    profile.write_text(PROFILE.format(heads=heads, **{name: json.dumps(str(path)) for name, path in weights.items()}))
    return profile


@dataclass(kw_only=True)
class Watched:
    """Peak values of a build's processes, without the Prefect server."""

    seconds: float = 0.0
    requests: int = 0
    """HTTP requests of the command to the server, repeated ones too."""
    cpu_s: dict[int, float] = field(default_factory=dict)
    """CPU seconds by process, including the server, at the last sample."""
    main_mb: float = 0.0
    worker_mb: float = 0.0
    main_files: int = 0
    worker_files: int = 0


def run_build(arguments: Sequence[str], log: Path) -> Watched:
    """Run and monitor the command line in its own process. Raises SpinMeRoundError if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    requests = log.with_suffix(".requests")
    environment |= {"PYTHONPATH": str(ROOT), "REQUESTS": str(requests)}
    began = perf_counter()
    with log.open("wb") as to:
        command = [sys.executable, "-c", _COMMAND, *arguments]
        process = subprocess.Popen(command, stdout=to, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
        with _watching(process.pid) as seen:
            status = process.wait()
    seen.seconds = perf_counter() - began
    if status:
        raise SpinMeRoundError(f"spinmeround {' '.join(arguments)}: exit status {status}; see {log}")
    seen.requests = int(requests.read_text(encoding="utf-8"))
    return seen


@contextmanager
def _watching(process: int) -> Iterator[Watched]:
    """Sample a process and its children several times per second during the block."""
    seen, over = Watched(), threading.Event()

    def sample() -> None:
        main = psutil.Process(process)
        while not over.wait(_SAMPLE_S):
            with suppress(psutil.Error):
                seen.main_mb, seen.main_files = _more(main, seen.main_mb, seen.main_files)
                for child in (main, *main.children()):
                    with suppress(psutil.Error):
                        seen.cpu_s[child.pid] = sum(child.cpu_times()[:2])
                        if child is not main and _SERVER not in child.cmdline():
                            seen.worker_mb, seen.worker_files = _more(child, seen.worker_mb, seen.worker_files)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _more(process: psutil.Process, megabytes: float, files: int) -> tuple[float, int]:
    return max(megabytes, process.memory_info().rss / 2**20), max(files, process.num_fds())


def database_bytes(runs: Path) -> int:
    """Size of the server's database, in bytes."""
    return sum(path.stat().st_size for path in (runs / ".prefect").glob("prefect.db*"))


def task_runs(runs: Path) -> tuple[int, int, float]:
    """Number of recorded task runs, number of unfinished ones, and seconds from the first start to the last end."""
    with closing(sqlite3.connect(f"file:{runs / '.prefect' / 'prefect.db'}?mode=ro", uri=True)) as database:
        (total,) = database.execute("SELECT count(*) FROM task_run").fetchone()
        (ended,) = database.execute("SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone()
        first, last = database.execute("SELECT min(start_time), max(end_time) FROM task_run").fetchone()
    return total, total - ended, (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
