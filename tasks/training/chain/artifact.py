"""A training as an artifact of the store: made once, from its checkpoints if it was interrupted."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinmeround.storage.artifacts import ArtifactStore, Manifest, Outcome
from spinmeround.storage.checkpoints import find_checkpoint
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.files import owned_folder, rename_folder
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.chain.finished import find_finished
from spinmeround.tasks.training.faces.pictures import PreparedFaces
from spinmeround.tasks.training.faces.plan import STAGE as FACES
from spinmeround.tasks.training.faces.plan import face_inputs
from spinmeround.tasks.training.key import (
    VERSION,
    Beginning,
    training_content,
    training_inputs,
    training_key,
    training_weights,
)
from spinmeround.tasks.training.loop import OnStep
from spinmeround.tasks.training.observation.trackers import LOGS
from spinmeround.tasks.training.optimisation.snapshots import AVERAGES
from spinmeround.tasks.training.params import METRICS, SAMPLES, TrainingResult, TrainParams, load_training
from spinmeround.tasks.training.run import run_training

_STATE = "state"


def make_training(
    store: ArtifactStore,
    data: Path | Sequence[str],
    params: TrainParams,
    encode: EncodeParams,
    checkpoints: Path,
    on_step: OnStep = lambda done, steps, loss: None,
    *,
    begins: Mapping[str, str] | None = None,
) -> tuple[Outcome, str, TrainingResult]:
    """Train one phase unless the store has the result; returns the outcome, the artifact's key and the result.

    `data` is a dataset, or the keys of the pictures of faces that `adapt` trains on. `begins` is the phase and the key
    of the training that it begins with, by default `train.initial`. A finished training of fewer steps is continued.
    Checkpoints are in `checkpoints / key[:12]`; the next call resumes an interrupted training from them. They are
    removed once the store has the result, which keeps the last one; the logs of TensorBoard and W&B stay there.
    """
    begins = begins or {}
    reads = training_inputs(HeadDataset.open(data)) if isinstance(data, Path) else face_inputs(data)
    read = {**reads, **begins}
    content, weights = training_content(params, encode), training_weights(params, encode, first=not begins)
    key = training_key(read, params, encode)
    folder = checkpoints / key[:12]

    def train(out: Path) -> None:
        before = [
            Beginning(phase=phase, key=key, folder=store.verify(phase, key).path) for phase, key in begins.items()
        ]
        if find_checkpoint(folder) is None:
            _continue(store, find_finished(store, params.name, content, read, weights), folder)
        opened = data if isinstance(data, Path) else _prepared(store, data)
        run_training(opened, params, encode, folder, out, on_step, *before)
        if params.keep_state and (last := find_checkpoint(folder)) is not None:
            _copy_folder(last.path, out / _STATE / last.path.name)

    outcome = store.make_once(
        params.name, key, train, version=VERSION, params=content, inputs=read, weights=weights, subject="model"
    )
    _remove_checkpoints(folder)
    return outcome, key, load_training(store.verify(params.name, key).path)


def _prepared(store: ArtifactStore, keys: Sequence[str]) -> PreparedFaces:
    return PreparedFaces(keys=tuple(keys), folders=tuple(store.verify(FACES, key).path for key in keys))


def _continue(store: ArtifactStore, finished: Manifest | None, folder: Path) -> None:
    """Put the last checkpoint, metrics, sheets and snapshots of a finished training into the folder of a new one."""
    if finished is None:
        return
    path = store.verify(finished.stage, finished.key).path
    last = find_checkpoint(path / _STATE)
    if last is not None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path / METRICS, folder / METRICS)
        for name in (AVERAGES, SAMPLES):
            if (path / name).is_dir():
                _copy_folder(path / name, folder / name)
        target = folder / last.path.name
        shutil.rmtree(target, ignore_errors=True)  # has no manifest, or it would be a checkpoint of this training
        with owned_folder(folder / "tmp", target.name) as copy:  # a kill leaves no checkpoint, or all of it
            _copy_folder(last.path, copy)
            rename_folder(copy, target)


def _remove_checkpoints(folder: Path) -> None:
    """Remove everything but the logs from the folder of a finished training; without logs, the folder."""
    for path in folder.glob("*") if (folder / LOGS).is_dir() else [folder]:
        if path.name == LOGS:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder whose files nobody writes to: as hard links where the file system has them."""
    shutil.rmtree(target, ignore_errors=True)  # of a copy that was interrupted
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
