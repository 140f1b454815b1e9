"""Train: one phase of the multiview diffusion model, on the latents of a published dataset.

The paper's three phases are trainings of their own: `adapt` (single pictures, identity alone), `single-view` (one
conditioning view) and `multi-view` (0, 1 or 3 conditioning views). The batch, noise and dropouts of a step are
functions of (seed, phase, step), and a checkpoint holds everything that the next step depends on, so an interrupted
training ends with the same weights as one that was not interrupted, and more steps continue a finished one. Only heads
of the split `train` are read.

A training runs in one process, or in several that a launcher starts with the same arguments.
"""

from pathlib import Path

from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.faces.pictures import PreparedFaces
from spinmeround.tasks.training.key import Beginning
from spinmeround.tasks.training.launching.job import Job
from spinmeround.tasks.training.launching.launch import launch
from spinmeround.tasks.training.loop import OnStep
from spinmeround.tasks.training.params import TrainingResult, TrainParams, load_training
from spinmeround.tasks.training.params.launch import JOB
from spinmeround.tasks.training.process import train_here


def run_training(
    data: Path | PreparedFaces,
    params: TrainParams,
    encode: EncodeParams,
    folder: Path,
    out: Path,
    on_step: OnStep = lambda done, steps, loss: None,
    begins: Beginning | None = None,
) -> TrainingResult:
    """Train from the newest intact checkpoint in `folder`, or from the start, and write the result to `out`.

    `data` is a dataset, or, of `adapt`, pictures of faces. A training starts with the result of `begins`, or with the
    networks of `train.initial`. It trains in this process, or in those of `params.launch`.

    Raises DatasetError if the dataset has no latents of this autoencoder, no head to train on or a damaged file;
    ConfigError for what this machine or this number of processes cannot train, and for checkpoints of another training;
    Interrupted on SIGTERM; and SpinMeRoundError, without a result, for a training that goes wrong again after it
    returned to its last checkpoint, or whose losses rose.
    """
    if params.launch.launcher == "none":
        train_here(data, params, encode, folder, out, on_step, begins)
    else:
        job = Job(data=data, params=params, encode=encode, folder=folder, out=out, begins=begins).absolute()
        launch(job, job.folder / JOB, on_step)
    return load_training(out)
