"""Builds killed by SIGKILL at any moment: the next build continues from intact artifacts."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from spinmeround.flows.server.process import free_port, running_server
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import verify
from spinmeround.tasks.heads.registry import DATASET_STAGES
from tests.e2e.conftest import write_profile
from tests.e2e.runs import artifacts, build, spinmeround, summary
from tests.e2e.test_server_lost import own_environment, servers_of
from tests.support.waiting import LIMIT_S, until

HEADS = 8
TOTAL = len(DATASET_STAGES) * HEADS + 1
MOMENTS = 50
GENERATOR = {"name": "tests.support.tiny:make", "options": {"delay_s": 0.3}}
pytestmark = pytest.mark.usefixtures("server")


def killed(command: list[str], environment: dict[str, str], store: Path, at: int, chance: random.Random) -> bool:
    """Kill a build, or one of its workers, shortly after it has `at` artifacts; waits until its processes are gone.

    Returns whether the build completed nevertheless, as it does without a worker.
    """
    main = spinmeround(*command, environment=environment)
    until(lambda: len(artifacts(store)) >= at or main.poll() is not None, interval_s=0.01)
    time.sleep(chance.uniform(0, 0.2 if at else 4.0))
    family = psutil.Process(main.pid).children(recursive=True) if main.poll() is None else []
    workers = [child.pid for child in family if "spawn_main" in " ".join(child.cmdline())]
    with suppress(ProcessLookupError):  # a worker may have ended
        os.kill(chance.choice([main.pid, *workers]), signal.SIGKILL)
    output, errors = main.communicate()
    assert main.returncode in (0, -signal.SIGKILL), (output, errors)
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert alive == [], "processes outlived the build"
    return main.returncode == 0


def leftovers(run: Path) -> list[Path]:
    """Temporary files, locks and quarantined payloads anywhere in a run's folder."""
    folders = (run / "store" / "tmp", run / "store" / "locks", run / "store" / "corrupt", run / ".tmp")
    found = [path for folder in (*folders, run / "datasets" / ".tmp") for path in folder.glob("*")]
    return found + [path for path in run.rglob(".*") if path.is_file()]


def stamps(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every artifact's manifest; a remade artifact has different ones."""
    found = {folder: (folder / "manifest.json").stat() for folder in artifacts(store)}
    return {str(folder.relative_to(store)): (each.st_ino, each.st_mtime_ns) for folder, each in found.items()}


def check_rerun(profile, runs: Path, digest: str) -> None:
    """A rerun gives the undisturbed digest, makes only missing artifacts, and removes what the killed one left."""
    run = runs / profile.name
    before = stamps(run / "store")
    found = build(profile, runs)
    assert found["dataset"]["digest"] == digest
    assert (found["heads"]["written"], found["heads"]["quarantined"]) == (HEADS, 0)
    assert sum(stage["made"] for stage in found["stages"].values()) == TOTAL - len(before)
    after = stamps(run / "store")
    assert before.items() <= after.items()
    assert len(after) == TOTAL
    assert leftovers(run) == []
    assert verify(Path(found["dataset"]["path"])) == []


def test_killed_three_times_and_again(tiny, profile_file, tmp_path, environment):
    """Kills early, halfway and late in one build leave no orphans; nothing is made twice; the digest is undisturbed."""
    profile, chance = tiny(generator=GENERATOR, plan={"heads": HEADS}), random.Random(1)
    digest = build(profile, tmp_path / "undisturbed")["dataset"]["digest"]
    runs, store = tmp_path / "killed", tmp_path / "killed" / "tiny" / "store"
    command = ["build", "--profile", str(profile_file), "--runs", str(runs)]
    for at in (6, 30, 60):
        before = stamps(store)
        killed(command, environment, store, at, chance)
        assert before.items() <= stamps(store).items()
        for folder in artifacts(store):
            ArtifactStore(store).verify(folder.parents[1].name, folder.name)
    check_rerun(profile, runs, digest)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_fifty_moments(tiny, profile_file, tmp_path, environment):
    """50 builds, each killed at a random moment in the main process or a worker, are complete after one rerun."""
    profile, chance = tiny(generator=GENERATOR, plan={"heads": HEADS}), random.Random(50)
    digest = build(profile, tmp_path / "undisturbed")["dataset"]["digest"]
    interrupted = 0
    for turn in range(MOMENTS):
        runs = tmp_path / str(turn)
        command = ["build", "--profile", str(profile_file), "--runs", str(runs), "--workers", "2"]
        ended = killed(command, environment, runs / "tiny" / "store", chance.randrange(TOTAL), chance)
        interrupted += not ended
        if ended:
            assert summary(runs / "tiny")["dataset"]["digest"] == digest
        check_rerun(profile, runs, digest)
        shutil.rmtree(runs)
    assert interrupted >= MOMENTS // 5


VICTIMS = ("command", "worker", "own server", "standing server", "serve")
IN_FLIGHT = 4
"""Heads in the shards that two workers make at a time: their renderings may be done again."""


@contextmanager
def standing(runs: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`spinmeround serve` on a folder of runs, once its server answers."""
    command = [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", "serve"]
    process = subprocess.Popen(
        [*command, "--runs", str(runs), "--port", str(free_port())],
        env=own_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: running_server(runs / ".prefect") or process.poll() is not None)
        yield process
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def process_of(victim: str, command: "subprocess.Popen[str]", serve: "subprocess.Popen[bytes] | None") -> int | None:
    """Process id of the victim, None if it has ended."""
    if victim == "serve" and serve is not None:
        return serve.pid
    if victim == "standing server" and serve is not None:
        return servers_of(serve)[0].pid
    if command.poll() is not None:
        return None
    if victim == "command":
        return command.pid
    workers = [each for each in psutil.Process(command.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    found = servers_of(command) if victim == "own server" else workers
    return found[0].pid if found else None


def struck(victim: str, file: Path, runs: Path, digest: str, chance: random.Random) -> bool:
    """Kill the victim at a random moment of a build, which goes on unless it is the victim.

    Returns whether the victim was still there.
    """
    store, at = runs / "tiny" / "store", chance.randrange(1, TOTAL)
    command = ["build", "--profile", str(file), "--runs", str(runs), "--workers", "2"]
    with ExitStack() as stack:
        serve = stack.enter_context(standing(runs)) if victim in ("serve", "standing server") else None
        process = spinmeround(*command, environment=own_environment())
        until(lambda: len(artifacts(store)) >= at or process.poll() is not None, interval_s=0.01)
        time.sleep(chance.uniform(0, 0.2))
        pid = process_of(victim, process, serve)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        output, errors = process.communicate(timeout=LIMIT_S)
        print(f"{victim}: killed after {at} of {TOTAL} artifacts, ended {time.monotonic() - killed_at:.0f} s later")
        _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
        assert alive == [], "processes outlived the build"
    if victim == "command":
        assert process.returncode in (0, -signal.SIGKILL)
    else:
        assert process.returncode == 0, errors
        assert digest in output
        assert "Traceback" not in errors
    return pid is not None


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("victim", VICTIMS)
def test_any_process_killed_at_six_moments(victim, tiny, tmp_path):
    """Whatever of a build is killed, itself, a worker or a server: it ends or goes on, and a rerun completes it.

    Work is done again for the heads in flight alone.
    """
    (calls := tmp_path / "calls").mkdir()
    generator = {"name": "tests.support.tiny:make", "options": {"delay_s": 0.3, "calls": str(calls)}}
    profile, chance = tiny(generator=generator, plan={"heads": HEADS}), random.Random(VICTIMS.index(victim))
    file = write_profile(profile, tmp_path / "tiny.toml")
    digest = build(profile, tmp_path / "undisturbed")["dataset"]["digest"]
    hits, needed = 0, len(list(calls.iterdir()))
    for turn in range(6):
        runs = tmp_path / str(turn)
        runs.mkdir()
        for call in calls.iterdir():
            call.unlink()
        hits += struck(victim, file, runs, digest, chance)
        if victim in ("serve", "standing server"):
            with standing(runs):
                again = spinmeround("build", "--profile", str(file), "--runs", str(runs), environment=own_environment())
                output, errors = again.communicate(timeout=LIMIT_S)
            assert again.returncode == 0, errors
            assert f"0 made, {TOTAL} reused" in output
        check_rerun(profile, runs, digest)
        assert needed <= len(list(calls.iterdir())) <= needed + IN_FLIGHT
        shutil.rmtree(runs)
    assert hits >= 3
