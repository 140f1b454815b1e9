"""A training as an artifact of the store: made once, from its checkpoints if it was interrupted."""

import shutil
from pathlib import Path

from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.loop import OnStep
from spinmeround.tasks.training.params import (
    VERSION,
    TrainingResult,
    TrainParams,
    load_training,
    training_content,
    training_inputs,
    training_key,
    training_weights,
)
from spinmeround.tasks.training.run import run_training


def make_training(
    store: ArtifactStore,
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    checkpoints: Path,
    on_step: OnStep = lambda done, steps, loss: None,
) -> tuple[Outcome, str, TrainingResult]:
    """Train unless the store has the result; returns the outcome, the artifact's key and the result.

    Checkpoints are in `checkpoints / key[:12]`; the next call resumes an interrupted training from them. They are
    removed once the store has the result.
    """
    read = training_inputs(HeadDataset.open(dataset))
    key = training_key(read, params, encode)
    folder = checkpoints / key[:12]

    def train(out: Path) -> None:
        run_training(dataset, params, encode, folder, out, on_step)

    outcome = store.make_once(
        "train",
        key,
        train,
        version=VERSION,
        params=training_content(params, encode),
        inputs=read,
        weights=training_weights(params, encode),
        subject="model",
    )
    shutil.rmtree(folder, ignore_errors=True)
    return outcome, key, load_training(store.verify("train", key).path)
