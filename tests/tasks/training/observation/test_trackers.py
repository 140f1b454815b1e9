"""What TensorBoard and Weights & Biases record of a training."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spinmeround.storage import extras
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import MissingDependency
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.observation.trackers import start_trackers
from spinmeround.tasks.training.params import TrainParams

MakeTrainParams = Callable[..., TrainParams]


def test_the_logs_outlive_the_checkpoints(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Of a finished training, TensorBoard's files stay beside nothing else; without trackers no folder stays."""
    store, folder = ArtifactStore(tmp_path / "store"), tmp_path / "training"
    for name, tensorboard in (("with", True), ("without", False)):
        params = train_params(tensorboard=tensorboard, seed=len(name))
        make_training(store, dataset, params, encode_params, folder / name)
    (left,) = (folder / "with").iterdir()
    assert [path.name for path in left.iterdir()] == ["logs"]
    assert [path for path in (left / "logs").iterdir() if path.name.startswith("events.out.tfevents")]
    assert not any((folder / "without").glob("*"))


def test_a_run_of_weights_and_biases_without_a_network(
    train_params: MakeTrainParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, the run is in the folder, to be sent later; one that resumes has the same id, that of the training."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for done in (0, 5):
        (tracker,) = start_trackers(train_params(wandb="faces"), tmp_path, "0123456789abcdef", done)
        assert wandb.run.id == "0123456789ab"
        tracker.log({"loss": 0.5}, step=done + 1)
        tracker.finish()
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert all(b"loss" in file.read_bytes() for file in files)


def test_a_program_that_fails_ends_no_training(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first failure is a warning, and the metrics are complete."""
    from accelerate.tracking import TensorBoardTracker

    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(TensorBoardTracker, "log", fail)
    store = ArtifactStore(tmp_path / "store")
    with pytest.warns(UserWarning, match="TensorBoard records no more of this training: .*no route to host") as warned:
        key = make_training(store, dataset, train_params(tensorboard=True), encode_params, tmp_path / "training")[1]
    assert len([each for each in warned if "records no more" in str(each.message)]) == 1
    lines = (store.verify("multi-view", key).path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == train_params().multi_view.steps


def test_weights_and_biases_is_named_where_it_is_missing(
    train_params: MakeTrainParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the field and the extra to install."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(extras, "requires", lambda name: ["wandb>=0.22; extra == 'wandb'"])
    with pytest.raises(MissingDependency, match=r"train\.wandb needs 'wandb', .*spinmeround\[wandb\]"):
        start_trackers(train_params(wandb="faces"), tmp_path, "0123456789abcdef", 0)
