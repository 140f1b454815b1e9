"""An evaluation that is killed, or whose results are damaged, ends with the same numbers to the last digit."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.evaluation import heads
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.model import predict_views
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.run import run_evaluation
from spinmeround.tasks.heads.embed import EmbedParams
from tests.support.weights import write_recognition

PARAMS = EvaluateParams(heads=3, targets=2, frontal_targets=1, schedule=NoiseSchedule(steps=2))


def killed(store: Path, dataset: Path, evaluated: Evaluated, out: Path) -> None:
    """In a process of its own: evaluate until the first head is scored, then die as by the kernel's hand."""
    torch.set_num_threads(1)
    run_evaluation(
        ArtifactStore(store), dataset, evaluated, out, lambda done, total: os.kill(os.getpid(), signal.SIGKILL)
    )


def test_a_killed_evaluation_ends_with_the_same_table(
    dataset: Path, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL after the first head: the rest is predicted once, a changed head again, and all bytes are equal."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    evaluated = Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=PARAMS, embed=embed)
    outs = {name: tmp_path / name for name in ("killed", "resumed", "whole")}
    for folder in outs.values():
        folder.mkdir()
    process = multiprocessing.get_context("spawn").Process(
        target=killed, args=(tmp_path / "store", dataset, evaluated, outs["killed"])
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not list(outs["killed"].iterdir())

    predicted: list[int] = []

    def counted(model, data, views, params):
        predicted.append(views.subject)
        return predict_views(model, data, views, params)

    monkeypatch.setattr(heads, "predict_views", counted)
    resumed = run_evaluation(ArtifactStore(tmp_path / "store"), dataset, evaluated, outs["resumed"])
    assert len(predicted) == len(resumed.heads) - 1 == 2
    run_evaluation(ArtifactStore(tmp_path / "other"), dataset, evaluated, outs["whole"])
    assert len(predicted) == 5
    damaged = next((tmp_path / "store" / "evaluate-head").rglob("scores.json"))
    damaged.chmod(0o644)
    damaged.write_text(damaged.read_text().replace("1", "2"))
    with pytest.warns(UserWarning, match="is damaged"):
        run_evaluation(ArtifactStore(tmp_path / "store"), dataset, evaluated, outs["resumed"])
    assert len(predicted) == 6
    files = [(outs[name] / "evaluation.json").read_bytes() for name in ("resumed", "whole")]
    assert files[0] == files[1]
