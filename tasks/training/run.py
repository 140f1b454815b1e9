"""Train: the multiview diffusion model on the latents of a published dataset.

The paper's three phases: `adapt` (one view, identity alone), `single_view` (one conditioning view) and `multi_view`
(0, 1 or 3 conditioning views). The batch, noise and dropouts of a step are functions of (seed, step), and a checkpoint
holds everything that the next step depends on, so an interrupted training ends with the same weights as one that was
not interrupted. Only heads of the split `train` are read.

A training runs in one process, or in several that a launcher started with the same arguments.
"""

from pathlib import Path

import torch

from spinmeround.models.device import best_device
from spinmeround.storage.dataset import HeadDataset, check_content
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint
from spinmeround.tasks.training.data.batches import TrainingBatches
from spinmeround.tasks.training.loop import OnStep, Training
from spinmeround.tasks.training.parallel.job import Job
from spinmeround.tasks.training.parallel.launch import launch
from spinmeround.tasks.training.parallel.params import JOB
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.parallel.termination import termination
from spinmeround.tasks.training.params import (
    METRICS,
    TrainingResult,
    TrainParams,
    load_training,
    training_inputs,
    training_key,
)
from spinmeround.tasks.training.result import write_result
from spinmeround.tasks.training.saving import TrainingCheckpoints
from spinmeround.tasks.training.validation import Validation


def run_training(
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    folder: Path,
    out: Path,
    on_step: OnStep = lambda done, steps, loss: None,
) -> TrainingResult:
    """Train from the newest intact checkpoint in `folder`, or from the start, and write the result to `out`.

    Trains in this process, or in those of `params.launch`.

    Raises DatasetError if the dataset has no latents of this autoencoder, no head to train on or a damaged file;
    ConfigError for what this machine or this number of processes cannot train, and for checkpoints of another training;
    Interrupted on SIGTERM; and SpinMeRoundError, without a result, for a training that goes wrong again after it
    returned to its last checkpoint, or whose losses rose.
    """
    if params.launch.launcher == "none":
        return train_here(dataset, params, encode, folder, out, on_step)
    job = Job(dataset=dataset.absolute(), params=params, encode=encode, folder=folder.absolute(), out=out.absolute())
    launch(job, folder.absolute() / JOB, on_step)
    return load_training(out)


def train_here(
    dataset: Path, params: TrainParams, encode: EncodeParams, folder: Path, out: Path, on_step: OnStep
) -> TrainingResult:
    """As `run_training`, in this process and those that a launcher started with it, which must all see the folders.

    The first process calls `on_step` and writes.
    """
    if params.state_on_disk and (device := best_device()).type != "cpu":
        raise ConfigError(f"train.state_on_disk: expected false on {device}; a mapped file serves only the CPU")
    if params.threads:
        torch.set_num_threads(params.threads)
    processes = Processes(params)
    data = HeadDataset.open(dataset)
    subjects = _training_subjects(data, params, encode)
    with processes.first_before_others():
        check_content(data)
    key = training_key(training_inputs(data), params, encode)
    batches = TrainingBatches(data, subjects, params, encode, processes.share)
    kept = {"keep": params.keep_checkpoints, "keep_best": params.keep_best}
    with TrainingCheckpoints(folder, key, background=not params.state_on_disk, **kept) as checkpoints:
        validation = Validation(data, params, encode, processes) if params.validation.every else None
        training = Training(params, processes, batches, checkpoints, validation)
        with termination() as terminated:
            training.run(on_step if processes.is_first else lambda done, steps, loss: None, terminated)
    networks = training.state.averaged()
    if processes.is_first:
        write_result(networks, training.history, params, encode, out, metrics=folder / METRICS)
    processes.wait()
    return load_training(out)


def _training_subjects(data: HeadDataset, params: TrainParams, encode: EncodeParams) -> list[int]:
    """The heads to train on; raises if the training cannot start on this dataset."""
    attributes = data.latents_attributes()
    found, expected = str(attributes.get("autoencoder")), autoencoder_fingerprint(encode)
    if found != expected:
        raise DatasetError(
            f"{data.path}: latents: expected those of the autoencoder {expected[:12]}, found {found[:12]}; "
            "run the stage encode"
        )
    if (frame := attributes.get("normals_frame", "world")) != encode.stored_frame:
        raise DatasetError(
            f"{data.path}: latents: expected normals in the frame {encode.stored_frame!r}, found {frame!r}; run the "
            "stage encode, or set encode.normals_frame"
        )
    subjects = data.split("train")
    if not subjects:
        raise DatasetError(f"{data.path}: expected a head in the split 'train', found none; build more heads")
    if params.steps < 1:
        raise ValueError("train: expected at least one step in adapt, single_view or multi_view, got none")
    return subjects
