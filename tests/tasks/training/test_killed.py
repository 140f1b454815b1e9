"""A training that is killed again and again while it writes checkpoints ends with the weights of one that is not."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.run import run_training
from tests.support.processes import kill, start
from tests.support.waiting import until

MakeTrainParams = Callable[..., TrainParams]
KILLS, STEPS = 50, 200


def weights(out: Path) -> dict[str, bytes]:
    """The bytes of all weights of a result."""
    files = sorted((out / "pipeline").rglob("*.safetensors"))
    return {f"{file.parent.name}.{name}": t.numpy().tobytes() for file in files for name, t in load_file(file).items()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_while_checkpoints_are_written(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Each SIGKILL hits while a checkpoint's temporary folder exists; an intact checkpoint is there after each, the
    training resumes from it, and neither weights nor history differ at the end."""
    phases = {"multi_view": train_params().multi_view.model_copy(update={"steps": STEPS})}
    params = train_params(checkpoint_every=1, learning_rate=1e-3, **phases)
    chance, checkpoints, results = random.Random(5), Checkpoints(tmp_path / "killed"), {}
    writing, done = tmp_path / "killed" / "tmp", [0]
    for _ in range(KILLS):
        before = checkpoints.steps()
        child = start(lambda: run_training(dataset, params, encode_params, tmp_path / "killed", tmp_path / "none"))
        until(
            lambda before=before: checkpoints.steps() != before and any(writing.glob("*/tensors.safetensors")),
            interval_s=0.0005,
        )
        time.sleep(chance.uniform(0, 0.01))
        kill(child)
        found = checkpoints.latest()
        assert found is not None
        done.append(found.step)
    assert done == sorted(done)
    assert KILLS // 2 < done[-1] < STEPS
    for name in ("killed", "straight"):
        (tmp_path / f"{name}-out").mkdir()
        results[name] = run_training(dataset, params, encode_params, tmp_path / name, tmp_path / f"{name}-out")
    assert weights(tmp_path / "killed-out") == weights(tmp_path / "straight-out")
    assert results["killed"].history == results["straight"].history
