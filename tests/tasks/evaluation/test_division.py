"""An evaluation whose heads are divided over processes ends with the bytes of one process."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spinmeround.flows.run.workers import Worker
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation import division
from spinmeround.tasks.evaluation.division import divide_heads, score_heads, worker_limit
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.methods import picture_file
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.run import run_evaluation
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.heads.embed import EmbedParams
from tests.support.weights import write_recognition

PARAMS = EvaluateParams(heads=3, targets=2, frontal_targets=1, schedule=NoiseSchedule(steps=2))


def whole(store: Path, dataset: Path, evaluated: Evaluated, out: Path) -> None:
    """In a process of its own, which computes as the workers do."""
    out.mkdir()
    run_evaluation(ArtifactStore(store), dataset, evaluated, out)


def score(store: Path, dataset: Path, evaluated: Evaluated, numbers: list[int], worker: int) -> None:
    score_heads(ArtifactStore(store), dataset, evaluated, numbers, worker)


@pytest.fixture
def evaluated(pipeline: Path, tmp_path: Path) -> Evaluated:
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    return Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=PARAMS, embed=embed)


def test_two_workers_give_the_bytes_of_one(dataset: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    """Table and pictures are equal to the last digit; what one worker left is all that is divided again."""
    workers = [Worker(threads=1), Worker(threads=1)]
    try:
        workers[0].call(whole, tmp_path / "one", dataset, evaluated, tmp_path / "whole")
        parts = divide_heads(ArtifactStore(tmp_path / "two"), dataset, evaluated, 2)
        assert sorted(number for part in parts for number in part) == [0, 1, 2]
        assert [len(part) for part in parts] == [2, 1]

        workers[1].call(score, tmp_path / "two", dataset, evaluated, parts[1], 1)
        assert divide_heads(ArtifactStore(tmp_path / "two"), dataset, evaluated, 2) == [[0], [2]]
        with ThreadPoolExecutor() as threads:
            for call in [
                threads.submit(worker.call, score, tmp_path / "two", dataset, evaluated, part, number)
                for number, (worker, part) in enumerate(zip(workers, parts, strict=True))
            ]:
                call.result()
        assert divide_heads(ArtifactStore(tmp_path / "two"), dataset, evaluated, 2) == []
        workers[0].call(whole, tmp_path / "two", dataset, evaluated, tmp_path / "divided")
    finally:
        for worker in workers:
            worker.close()
    for name in ("evaluation.json", "pictures.npz"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "divided"))
        assert first == second
    assert len(list((tmp_path / "two" / "evaluate-head").rglob("predicted.npz"))) == 3


def test_heads_with_a_new_method_are_divided_again(dataset: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    """A head is complete once the pictures of every method are scored too; its prediction is not made again."""
    store = ArtifactStore(tmp_path / "store")
    score_heads(store, dataset, evaluated, [0, 1, 2], 0)
    before = len(list((tmp_path / "store" / "evaluate-head").rglob("predicted.npz")))
    data = HeadDataset.open(dataset)
    folder, side = tmp_path / "other", data.sizes["height"]
    for views in choose_views(data, PARAMS, evaluated.embed.frontal):
        (folder / data.ids[views.subject]).mkdir(parents=True)
        for view in views.targets:
            picture = np.full((side, side, 3), 200, np.uint8)
            Image.fromarray(picture).save(folder / picture_file(data.ids[views.subject], view))
    params = PARAMS.model_copy(update={"predictions": {"other": str(folder)}})
    both = Evaluated(pipeline=evaluated.pipeline, training=evaluated.training, params=params, embed=evaluated.embed)
    assert divide_heads(store, dataset, both, 2) == [[0, 2], [1]]
    score_heads(store, dataset, both, [0, 2], 0)
    assert divide_heads(store, dataset, both, 2) == [[1]]
    assert len(list((tmp_path / "store" / "evaluate-head").rglob("predicted.npz"))) == before


def test_workers_are_limited_by_gpus_or_memory(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a GPU; without any as many as have room for the weights twice and a gigabyte, and always one."""
    weights = sum(file.stat().st_size for file in pipeline.rglob("*.safetensors"))
    assert weights > 0

    class Memory:
        available = 3 * (2 * weights + division.WORKING_BYTES) + 1

    monkeypatch.setattr(division.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(division.psutil, "virtual_memory", Memory)
    assert worker_limit(pipeline) == 3
    Memory.available = 1
    assert worker_limit(pipeline) == 1
    monkeypatch.setattr(division.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(division.torch.cuda, "device_count", lambda: 4)
    assert worker_limit(pipeline) == 4
