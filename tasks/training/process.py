"""Train in this process: one phase of the diffusion model, on the latents of a published dataset or on pictures.

Takes part in the training of all processes that a launcher started with the same arguments; alone, it is the only one.
"""

from pathlib import Path

import torch

from spinmeround.models.device import best_device
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.averaged import model_record
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.faces.pictures import PreparedFaces
from spinmeround.tasks.training.key import Beginning, lineage_key
from spinmeround.tasks.training.loop import OnStep, Training
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.output.checkpoints import TrainingCheckpoints
from spinmeround.tasks.training.output.result import write_result
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.parallel.termination import termination
from spinmeround.tasks.training.params import METRICS, TrainParams
from spinmeround.tasks.training.reads import TrainingReads, read_faces, read_heads


def train_here(
    data: Path | PreparedFaces,
    params: TrainParams,
    encode: EncodeParams,
    folder: Path,
    out: Path,
    on_step: OnStep,
    begins: Beginning | None = None,
) -> None:
    """As `run_training`, in this process and those that a launcher started with it, which must all see the folders.

    The first process calls `on_step` and writes.
    """
    if params.state_on_disk and (device := best_device()).type != "cpu":
        raise ConfigError(f"train.state_on_disk: expected false on {device}; a mapped file serves only the CPU")
    if params.threads:
        torch.set_num_threads(params.threads)
    processes = Processes(params)
    reads = _reads(data, params, encode, processes)

    def build() -> Networks:
        return reads.normalising(build_initial_networks(params, begins.folder if begins else None))

    with _checkpoints(folder, reads, params, encode, begins) as checkpoints:
        training = Training(params, processes, reads.batches, checkpoints, reads.validation, build, reads.samples)
        with termination() as terminated:
            training.run(on_step if processes.is_first else lambda done, steps, loss: None, terminated)
    networks = training.state.averaged(build)
    if processes.is_first:
        write_result(networks, training.history, params, encode, out, metrics=folder / METRICS)
    processes.wait()


def _reads(
    data: Path | PreparedFaces, params: TrainParams, encode: EncodeParams, processes: Processes
) -> TrainingReads:
    if isinstance(data, Path):
        return read_heads(data, params, encode, processes)
    return read_faces(data, params, processes)


def _checkpoints(
    folder: Path, reads: TrainingReads, params: TrainParams, encode: EncodeParams, begins: Beginning | None
) -> TrainingCheckpoints:
    return TrainingCheckpoints(
        folder,
        lineage_key({**reads.inputs, **(begins.inputs if begins else {})}, params, encode),
        model=model_record(params, encode.normals_frame),
        keep=params.keep_checkpoints,
        keep_best=params.keep_best,
        background=not params.state_on_disk,
    )
