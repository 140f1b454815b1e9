"""The evaluation of a run, over its worker processes: the table of one worker, also after one was killed."""

import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from spinmeround.flows.evaluation import evaluated
from spinmeround.flows.run.ledger import Ledger
from spinmeround.flows.run.workers import WorkerDied, WorkerPool
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.heads.embed import EmbedParams
from tests.support.weights import write_recognition

PARAMS = EvaluateParams(heads=3, targets=2, frontal_targets=1, schedule=NoiseSchedule(steps=2))


class Run:
    """What an evaluation needs of a run: a store with a trained pipeline, and workers."""

    def __init__(self, root: Path, dataset: Path, pipeline: Path, embed: EmbedParams) -> None:
        self.store, self._embed = ArtifactStore(root / "store"), embed
        digest = HeadDataset.open(dataset).digest
        self.dataset = Published(path=dataset, digest=digest, key="", outcome="reused")
        self.key = artifact_key("multi-view", 1, {}, {})
        with self.store.commit(
            "multi-view", self.key, version=1, params={}, inputs={}, weights="", subject="model"
        ) as out:
            shutil.copytree(pipeline, out / "pipeline")

    def evaluate(self, workers: int) -> dict[str, bytes]:
        """The files of the evaluation, made by this many workers."""
        execution = SimpleNamespace(workers=workers)
        session: Any = SimpleNamespace(
            profile=SimpleNamespace(embed=self._embed, execution=execution),
            store=self.store,
            pool=WorkerPool(workers),
            ledger=Ledger(),
        )
        try:
            _, key, _ = evaluated(session, self.dataset, {"multi-view": self.key}, PARAMS)
        finally:
            session.pool.close()
        folder = self.store.verify("evaluate", key).path
        return {name: (folder / name).read_bytes() for name in ("evaluation.json", "pictures.npz")}

    def heads(self) -> dict[Path, int]:
        """The results of heads, with the time that each was made."""
        found = self.store.root / "evaluate-head"
        return {path.parent: path.stat().st_mtime_ns for path in found.rglob("manifest.json")}


def kill_a_worker(run: Run, over: threading.Event) -> None:
    """Kill the first worker, which has the table to make after its heads, as soon as a head is scored."""
    while not run.heads():
        if over.wait(0.01):
            return
    os.kill(min(workers(), key=psutil.Process.create_time).pid, signal.SIGKILL)


def workers() -> list[psutil.Process]:
    """The worker processes of this process."""
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            if "spawn_main" in " ".join(each.cmdline()):
                found.append(each)
    return found


def test_two_workers_and_a_killed_one_give_the_table_of_one(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """All bytes are equal; what was scored before SIGKILL is kept, and no process outlives an evaluation."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    one = Run(tmp_path / "one", dataset, pipeline, embed).evaluate(workers=1)

    run = Run(tmp_path / "two", dataset, pipeline, embed)
    over = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=[run, over])
    killer.start()
    try:
        with pytest.raises(WorkerDied, match="SIGKILL"):
            run.evaluate(workers=2)
    finally:
        over.set()
        killer.join()
    left = run.heads()
    assert left
    assert run.evaluate(workers=2) == one
    assert len(run.heads()) == 3
    assert left.items() <= run.heads().items()
    assert workers() == []
