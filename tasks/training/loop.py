"""Train: the multiview diffusion model on a published dataset, from its latents.

Three stages, as the paper has them: `adapt` (one view, identity alone), `single_view` (one conditioning
view) and `multi_view` (0, 1 or 3 of them). A step's batch, noise and drops are functions of (seed, step),
and a checkpoint holds everything that the next step depends on, so an interrupted training ends with the
same weights as one that was not. Heads outside the `train` split are never read.

Result: `pipeline/`, the averaged weights as a diffusers pipeline; `history.json`, the mean loss of every
`record_every` steps; `training.json` {steps, loss_first, loss_last}, where the losses are means over the
first and the last tenth of the steps.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinmeround.models.device import best_device
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss, sample_drops
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint, autoencoder_path, load_autoencoder
from spinmeround.tasks.stage import Outcome
from spinmeround.tasks.training.batches import Group, LatentSource, draw_group, recolour, step_rng
from spinmeround.tasks.training.initial import begin_networks
from spinmeround.tasks.training.params import (
    VERSION,
    TrainingResult,
    TrainParams,
    load_training,
    training_content,
    training_key,
    training_weights,
)
from spinmeround.tasks.training.state import Networks, Schedule, TrainingState

GROUPS, DROPS, NOISE, COLOURS = range(4)
"""Purposes of a step's random numbers."""

Progress = Callable[[int, int, float], None]
"""Called after each step with the step, their number and the loss."""


def run_training(
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    folder: Path,
    out: Path,
    progress: Progress = lambda step, steps, loss: None,
) -> TrainingResult:
    """Trains from the newest whole checkpoint in `folder`, or from the start, and writes the result to `out`.

    Raises DatasetError where the dataset has no latents of this autoencoder or no head to train on.
    """
    if params.threads:
        torch.set_num_threads(params.threads)
    data = HeadDataset.open(dataset)
    subjects = _training_subjects(data, params, encode)
    device = best_device()
    if params.state_on_disk and device.type != "cpu":
        raise ConfigError(f"train.state_on_disk: expected false on {device}, whose weights no mapped file goes with")
    networks = begin_networks(params).to(device)
    if params.gradient_checkpointing:
        networks.unet.train().enable_gradient_checkpointing()
    disk = folder if params.state_on_disk else None
    state = TrainingState(networks, params.weight_decay, params.ema_decay, disk)
    checkpoints, losses, done = Checkpoints(folder), [], 0
    if (found := checkpoints.latest()) is not None:
        tensors = found.tensors()
        losses, done = tensors.pop("losses").tolist(), found.step
        state.load(tensors, done)
    batches = _Batches(data, subjects, params, encode)
    schedule = Schedule(params.learning_rate, params.warm_up_steps, params.steps, params.final_rate)
    for step in range(done, params.steps):
        loss = _loss(state.networks, batches, step)
        loss.backward()
        state.update(schedule.at(step), params.gradient_limit)
        losses.append(loss.item())
        progress(step + 1, params.steps, losses[-1])
        if (step + 1) % params.checkpoint_every == 0 and step + 1 < params.steps:
            tensors = {**state.tensors(), "losses": torch.tensor(losses, dtype=torch.float64)}
            checkpoints.save(step + 1, tensors, {"dataset": data.digest})
    return _finish(state.averaged(), losses, params, encode, out)


def _training_subjects(data: HeadDataset, params: TrainParams, encode: EncodeParams) -> list[int]:
    made_by, expected = data.latents_attributes().get("autoencoder"), autoencoder_fingerprint(encode)
    if made_by != expected:
        raise DatasetError(
            f"{data.path}: its latents are of another autoencoder ({str(made_by)[:12]}, not {expected[:12]}); "
            "run the stage encode"
        )
    subjects = data.split("train")
    if not subjects:
        raise DatasetError(f"{data.path}: expected a head in the split 'train', found none; ask for more heads")
    if params.steps < 1:
        raise ValueError("train: expected at least one step in adapt, single_view or multi_view, got none")
    return subjects


class _Batches:
    """The training batches, each a function of the seed and the step."""

    def __init__(self, data: HeadDataset, subjects: Sequence[int], params: TrainParams, encode: EncodeParams) -> None:
        self.data, self.subjects, self.params = data, subjects, params
        self.source = LatentSource(data, subjects, params.memory_mb)
        self.autoencoder = load_autoencoder(autoencoder_path(encode)) if params.random_background else None
        self.cameras = {subject: data.cameras(subject) for subject in subjects}
        self.identities = torch.from_numpy(data.identities)

    def group(self, step: int) -> Group:
        cameras = Cameras(**self.cameras[self.subjects[0]])
        rng = step_rng(self.params.seed, step, GROUPS)
        return draw_group(self.params.grouping_at(step), self.subjects, cameras, self.params.batch, rng)

    def latents(self, group: Group, step: int) -> Tensor:
        """Image and normal latents of the group, some on another background."""
        latents = self.source.read(group)
        if self.autoencoder is None:
            return latents
        rng = step_rng(self.params.seed, step, COLOURS)
        return recolour(latents, group, self.params.random_background, self.data, self.autoencoder, rng)

    def camera(self, group: Group, name: str) -> Tensor:
        rows = [self.cameras[int(s)][name][views] for s, views in zip(group.subjects, group.views, strict=True)]
        return torch.from_numpy(np.stack(rows))


def _loss(networks: Networks, batches: _Batches, step: int) -> Tensor:
    """The loss of one step, of which nothing depends on the steps before but the weights."""
    params, group, device = batches.params, batches.group(step), networks.unet.device
    latents = batches.latents(group, step)
    samples, views = latents.shape[:2]
    conditioning = (torch.arange(views) < group.conditioning).expand(samples, views)
    drop_identity, drop_images = sample_drops(
        samples,
        params.condition_dropout,
        _generator(params.seed, step, DROPS),
        identity_alone=params.identity_dropout,
    )
    rays = encode_rays(
        batches.camera(group, "cam2world"),
        batches.camera(group, "intrinsics"),
        reference=reference_view(conditioning),
        resolution=latents.shape[-1],
        encoding=params.unet.ray_encoding,
    )
    noise_generator = _generator(params.seed, step, NOISE)  # on the CPU: the same numbers on every device
    sigma = params.noise.sample(samples, targets=views - group.conditioning, generator=noise_generator)
    noise = torch.randn(latents.shape, generator=noise_generator)
    identities = batches.identities[torch.from_numpy(group.subjects)].to(device)
    with torch.autocast(device.type, torch.bfloat16) if params.precision == "bfloat16" else nullcontext():
        batch = TrainingBatch(
            latents=latents.to(device),
            conditioning=conditioning.to(device),
            rays=rays.to(device),
            text=networks.conditioner(identities),
            empty_text=networks.conditioner.unconditional(samples),
            drop_identity=drop_identity.to(device),
            drop_images=drop_images.to(device),
        )
        return multiview_loss(networks.unet, batch, sigma.to(device), noise.to(device)).mean


def _generator(seed: int, step: int, purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(step_rng(seed, step, purpose).integers(2**63 - 1)))


def loss_summary(losses: Sequence[float], record_every: int) -> tuple[list[dict[str, Any]], float, float]:
    """Records of the history, and the mean losses of the first and the last tenth of the steps."""
    records = [
        {"step": min(start + record_every, len(losses)), "loss": float(np.mean(losses[start : start + record_every]))}
        for start in range(0, len(losses), record_every)
    ]
    tenth = max(1, len(losses) // 10)
    return records, float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _finish(
    networks: Networks, losses: Sequence[float], params: TrainParams, encode: EncodeParams, out: Path
) -> TrainingResult:
    history, first, last = loss_summary(losses, params.record_every)
    autoencoder = load_autoencoder(autoencoder_path(encode))
    pipeline = SpinMeRoundPipeline(
        unet=networks.unet,
        vae=autoencoder,
        text_encoder=networks.conditioner.text_encoder,
        prompt=params.text_encoder.prompt.model_dump(),
    )
    pipeline.save_pretrained(out / "pipeline")
    (out / "history.json").write_text(json.dumps({"runs": [{"name": "training", "history": history}]}))
    summary: dict[str, Any] = {"steps": len(losses), "loss_first": first, "loss_last": last}
    (out / "training.json").write_text(json.dumps(summary))
    return TrainingResult(**summary, history=history, pipeline=out / "pipeline")


def make_training(
    store: ArtifactStore,
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    checkpoints: Path,
    progress: Progress = lambda step, steps, loss: None,
) -> tuple[Outcome, str, TrainingResult]:
    """Trains unless the store has the result already; returns the outcome, the artifact's key and the result.

    Checkpoints are kept in `checkpoints / key[:12]`, so that the next call goes on where this one was killed.
    """
    digest = HeadDataset.open(dataset).digest
    key, weights = training_key(digest, params, encode), training_weights(params, encode)
    content = training_content(params)
    outcome: Outcome = "reused"
    with store.lock("train", key):
        if not store.has("train", key):
            outcome = "made"
            with store.commit(
                "train",
                key,
                version=VERSION,
                params=content,
                inputs={"dataset": digest},
                weights=weights,
                subject="model",
            ) as out:
                run_training(dataset, params, encode, checkpoints / key[:12], out, progress)
    return outcome, key, load_training(store.open("train", key).path)
