"""Train: the multiview diffusion model on the latents of a published dataset.

The paper's three phases: `adapt` (one view, identity alone), `single_view` (one conditioning view) and `multi_view`
(0, 1 or 3 conditioning views). The batch, noise and dropouts of a step are functions of (seed, step), and a checkpoint
holds everything that the next step depends on, so an interrupted training ends with the same weights as one that was
not interrupted. Only heads of the split `train` are read.

Result: `pipeline/`, the averaged weights as a diffusers pipeline; `history.json`, the mean loss over every
`record_every` steps; `training.json` {steps, loss_first, loss_last}, where the losses are means over the first and the
last tenth of the steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinmeround.models.device import best_device
from spinmeround.models.diffusion.edm import sample_sigmas
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss, sample_condition_dropout
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.dataset import HeadDataset, check_content
from spinmeround.storage.errors import ConfigError, DatasetError, SpinMeRoundError
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.autoencoder import load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint, autoencoder_path
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.training.batches import DROPS, NOISE, GroupBatch, TrainingBatches
from spinmeround.tasks.training.initial import build_initial_networks
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
from spinmeround.tasks.training.state import Networks, Schedule, TrainingState

OnStep = Callable[[int, int, float], None]
"""Called after each step with the number of steps done, their total and the loss."""


def run_training(
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    folder: Path,
    out: Path,
    on_step: OnStep = lambda done, steps, loss: None,
) -> TrainingResult:
    """Train from the newest intact checkpoint in `folder`, or from the start, and write the result to `out`.

    Raises DatasetError if the dataset has no latents of this autoencoder, no head to train on or a damaged file, and
    ConfigError for `state_on_disk` on an accelerator. A loss or gradient that is not finite is a SpinMeRoundError with
    the step and its heads; the optimiser does not take that step, and there is no result.
    """
    if params.threads:
        torch.set_num_threads(params.threads)
    data = HeadDataset.open(dataset)
    subjects = _training_subjects(data, params, encode)
    check_content(data)
    state = _initial_state(params, folder)
    checkpoints, losses, done = Checkpoints(folder), [], 0
    if (found := checkpoints.latest()) is not None:
        tensors = found.tensors()
        losses, done = tensors.pop("losses").tolist(), found.step
        state.load(tensors, done)
    batches = TrainingBatches(data, subjects, params, encode)
    schedule = Schedule(params.learning_rate, params.warm_up_steps, params.steps, params.final_rate)
    for step in range(done, params.steps):
        groups = batches.read(step)
        loss = _loss(state.networks, groups, params, step)
        with _named(step, groups.heads):
            losses.append(_finite(loss))
            torch.autograd.backward(loss)
            state.update(schedule.at(step), params.gradient_limit)
        on_step(step + 1, params.steps, losses[-1])
        if (step + 1) % params.checkpoint_every == 0 and step + 1 < params.steps:
            tensors = {**state.tensors(), "losses": torch.tensor(losses, dtype=torch.float64)}
            checkpoints.save(step + 1, tensors, {"dataset": data.digest})
    return _write_result(state.averaged(), losses, params, encode, out)


def _training_subjects(data: HeadDataset, params: TrainParams, encode: EncodeParams) -> list[int]:
    """The heads to train on; raises if the training cannot start on this dataset."""
    found, expected = str(data.latents_attributes().get("autoencoder")), autoencoder_fingerprint(encode)
    if found != expected:
        raise DatasetError(
            f"{data.path}: latents: expected those of the autoencoder {expected[:12]}, found {found[:12]}; "
            "run the stage encode"
        )
    subjects = data.split("train")
    if not subjects:
        raise DatasetError(f"{data.path}: expected a head in the split 'train', found none; build more heads")
    if params.steps < 1:
        raise ValueError("train: expected at least one step in adapt, single_view or multi_view, got none")
    return subjects


def _initial_state(params: TrainParams, folder: Path) -> TrainingState:
    """The state before the first step, on the best device."""
    device = best_device()
    if params.state_on_disk and device.type != "cpu":
        raise ConfigError(f"train.state_on_disk: expected false on {device}; a mapped file serves only the CPU")
    networks = build_initial_networks(params).to(device)
    if params.gradient_checkpointing:
        networks.unet.train().enable_gradient_checkpointing()
    return TrainingState(networks, params.weight_decay, params.ema_decay, folder if params.state_on_disk else None)


def _loss(networks: Networks, groups: GroupBatch, params: TrainParams, step: int) -> Tensor:
    """The loss of one step; it depends on earlier steps only through the weights."""
    device: torch.device = networks.unet.device
    samples, views = groups.latents.shape[:2]
    is_conditioning = (torch.arange(views) < groups.conditioning).expand(samples, views)
    drop_identity, drop_images = sample_condition_dropout(
        samples,
        params.condition_dropout,
        _generator(params.seed, step, DROPS),
        identity_alone=params.identity_dropout,
    )
    rays = encode_rays(
        groups.cam2world,
        groups.intrinsics,
        reference=reference_view(is_conditioning),
        resolution=groups.latents.shape[-1],
        encoding=params.unet.ray_encoding,
    )
    noise_generator = _generator(params.seed, step, NOISE)  # on the CPU: the same numbers on every device
    sigma = sample_sigmas(params.noise, samples, targets=views - groups.conditioning, generator=noise_generator)
    noise = torch.randn(groups.latents.shape, generator=noise_generator)
    with torch.autocast(device.type, torch.bfloat16) if params.precision == "bfloat16" else nullcontext():
        batch = TrainingBatch(
            latents=groups.latents.to(device),
            is_conditioning=is_conditioning.to(device),
            rays=rays.to(device),
            prompt_embeds=networks.prompt_encoder(groups.identity.to(device)),
            empty_prompt_embeds=networks.prompt_encoder.empty_prompt(samples),
            drop_identity=drop_identity.to(device),
            drop_images=drop_images.to(device),
        )
        return multiview_loss(networks.unet, batch, sigma.to(device), noise.to(device)).mean


def _finite(loss: Tensor) -> float:
    """The loss as a number; raises SpinMeRoundError if it is not finite."""
    if not math.isfinite(value := loss.item()):
        raise SpinMeRoundError(f"expected a finite loss, found {value}")
    return value


@contextmanager
def _named(step: int, heads: Sequence[str]) -> Iterator[None]:
    """Add the step, its heads and advice to a SpinMeRoundError."""
    try:
        yield
    except SpinMeRoundError as error:
        raise SpinMeRoundError(
            f"train: step {step + 1}: {error}; its heads are {', '.join(heads)}. The step was not taken: check the "
            "weights (spinmeround weights check) and the dataset (spinmeround dataset verify), or lower "
            "train.learning_rate"
        ) from error


def _generator(seed: int, step: int, purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(draw_rng(seed, step, 0, purpose).integers(2**63 - 1)))


def loss_summary(losses: Sequence[float], record_every: int) -> tuple[list[dict[str, Any]], float, float]:
    """Records of the history, and the mean losses over the first and the last tenth of the steps."""
    records = [
        {"step": min(start + record_every, len(losses)), "loss": float(np.mean(losses[start : start + record_every]))}
        for start in range(0, len(losses), record_every)
    ]
    tenth = max(1, len(losses) // 10)
    return records, float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _write_result(
    networks: Networks, losses: Sequence[float], params: TrainParams, encode: EncodeParams, out: Path
) -> TrainingResult:
    history, first, last = loss_summary(losses, params.record_every)
    pipeline = SpinMeRoundPipeline(
        unet=networks.unet,
        vae=load_autoencoder(autoencoder_path(encode)),
        text_encoder=networks.prompt_encoder.text_encoder,
        prompt=params.text_encoder.prompt.model_dump(),
    )
    pipeline.save_pretrained(out / "pipeline")
    (out / "history.json").write_text(
        json_text({"runs": [{"name": "training", "history": history}]}, "train: history", indent=None), encoding="utf-8"
    )
    summary: dict[str, Any] = {"steps": len(losses), "loss_first": first, "loss_last": last}
    (out / "training.json").write_text(json_text(summary, "train", indent=None), encoding="utf-8")
    return TrainingResult(**summary, history=history, pipeline=out / "pipeline")


def make_training(
    store: ArtifactStore,
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    checkpoints: Path,
    on_step: OnStep = lambda done, steps, loss: None,
) -> tuple[Outcome, str, TrainingResult]:
    """Train unless the store has the result; returns the outcome, the artifact's key and the result.

    Checkpoints are in `checkpoints / key[:12]`; the next call resumes an interrupted training from them.
    """
    read = training_inputs(HeadDataset.open(dataset))
    key = training_key(read, params, encode)

    def train(out: Path) -> None:
        run_training(dataset, params, encode, checkpoints / key[:12], out, on_step)

    outcome = store.make_once(
        "train",
        key,
        train,
        version=VERSION,
        params=training_content(params),
        inputs=read,
        weights=training_weights(params, encode),
        subject="model",
    )
    return outcome, key, load_training(store.verify("train", key).path)
