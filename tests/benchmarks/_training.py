"""Two trainings of the same UNet on the same heads, step by step: the project's, and a plain loop.

The plain loop is that of diffusers' training scripts: eager mode, torch's default AdamW, diffusers' EMAModel, the text
encoder in each step, the loss read after each step, and data that is read and encoded sample by sample when the step
asks for it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.dataset import HeadDataset, HeadEntry, publish, write_head, write_latents
from spinmeround.tasks.heads.autoencoder import encode_batches, load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path, publish_latents
from spinmeround.tasks.loading.tensors import on_colour
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.data.batches import TrainingBatches
from spinmeround.tasks.training.data.feed import BatchFeed
from spinmeround.tasks.training.gradients import backward
from spinmeround.tasks.training.loop import Training
from spinmeround.tasks.training.model.precision import autocast_dtype
from spinmeround.tasks.training.optimisation.optimiser import Schedule
from spinmeround.tasks.training.output.checkpoints import TrainingCheckpoints
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.step import StepNoise
from tests.support.heads import make_head

HEADS = 8


def write_dataset(folder: Path, params: TrainParams, encode: EncodeParams, side: int) -> HeadDataset:
    """A dataset of heads of noise with the cameras of a ring, and latents of noise."""
    grid, unet = ViewGrid(azimuths=16, elevations_deg=(0.0,)), params.unet
    cameras, entries, latents = grid.cameras(), [], {}
    shape = (grid.views, unet.latent_channels, unet.sample_size, unet.sample_size)
    for seed in range(HEADS):
        noise = make_head(seed, views=grid.views, side=side)
        poses = {"cam2world": cameras.cam2world, "intrinsics": cameras.intrinsics, "azimuth": cameras.azimuth_deg}
        head = replace(noise, **poses, elevation=cameras.elevation_deg)
        write_head(folder / head.id, head)
        halves = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float16)
        latents[head.id] = folder / f"{head.id}-latents"
        write_latents(latents[head.id], halves[0], halves[1])
        entries.append(HeadEntry(id=head.id, folder=folder / head.id))
    shares = {"split": {"validation": 0.0, "test": 0.0}}
    path = publish(folder / "datasets", entries, shares).path
    publish_latents(path, latents, encode)
    return HeadDataset.open(path)


class Loop(Protocol):
    """A training that takes one step after the other; `waited` is the time that steps waited for data so far."""

    waited: float

    def step(self, number: int) -> float:
        """Take a step; returns its loss."""


class ProjectLoop:
    """The project's own loop, without its checkpoints."""

    def __init__(self, data: HeadDataset, params: TrainParams, encode: EncodeParams, folder: Path) -> None:
        self.processes = Processes(params)
        self.batches = TrainingBatches(data, data.split("train"), params, encode, self.processes.share)
        self.training = Training(params, self.processes, self.batches, TrainingCheckpoints(folder, "benchmark"))
        self.feed = self.training.feed = BatchFeed(
            self.batches, steps=params.steps, ahead=params.prefetch, workers=params.workers, threads=params.threads
        )
        self.waited = 0.0

    def step(self, number: int) -> float:
        before = self.training.meter.waited
        loss = self.training.take_step(number)
        self.training.done = number + 1
        self.waited += self.training.meter.waited - before
        self.training.measure()
        return float("nan") if loss is None else loss


class PlainLoop:
    """The plain loop."""

    def __init__(self, data: HeadDataset, params: TrainParams, encode: EncodeParams) -> None:
        self.data, self.params = data, params
        self.draws = TrainingBatches(data, data.split("train"), params.model_copy(update={"memory_mb": 0}), encode)
        self.vae = load_autoencoder(autoencoder_path(encode))
        self.device = self.vae.device
        self.networks = build_initial_networks(params).to(self.device)
        self.weights = list(self.networks.trained().values())
        if params.gradient_checkpointing:
            self.networks.unet.train().enable_gradient_checkpointing()
        self.optimiser = torch.optim.AdamW(self.weights, lr=params.learning_rate, weight_decay=params.weight_decay)
        self.schedule = Schedule.of(params)
        self.average = EMAModel(self.weights, decay=0.9999)
        self.waited = 0.0

    def step(self, number: int) -> float:
        began = time.perf_counter()
        groups, noise = self._data(number)
        self.waited += time.perf_counter() - began
        parts, losses = list(groups.parts(self.params.micro_batch or len(groups.heads))), []
        for start, part in zip(range(0, len(groups.heads), len(parts[0].heads)), parts, strict=True):
            rows = slice(start, start + len(part.heads))
            dtype = autocast_dtype(self.params.precision)
            with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
                loss = multiview_loss(
                    self.networks.multiview,
                    self._batch(part, noise, rows),
                    noise.sigma[rows].to(self.device),
                    noise.noise[rows].to(self.device),
                ).per_half.mean(1).sum() / len(groups.heads)
            loss.backward()
            losses.append(loss.item())
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.at(number)
        nn.utils.clip_grad_norm_(self.weights, self.params.gradient_limit)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.step(self.weights)
        return sum(losses)

    def _data(self, number: int) -> Any:
        """The groups of a step, read view by view and encoded sample by sample, and their noise."""
        draw = self.draws.draw(number)
        groups = replace(self.draws.read_groups(draw, number), pictures=None)
        pictures = self.draws.pictures.read(draw, number)
        latents = groups.latents.clone()
        for row, sample in enumerate(pictures.rows if pictures else ()):
            images = on_colour(pictures.rgb[row], pictures.mask[row], pictures.colours[row])
            encoded = encode_batches(self.vae, images, batch=len(images))
            latents[sample, :, : encoded.shape[1]] = encoded
        return replace(groups, latents=latents), StepNoise.drawn(groups, number, self.params)

    def _batch(self, part: Any, noise: StepNoise, rows: slice) -> TrainingBatch:
        given = (torch.arange(part.latents.shape[1]) < part.conditioning).expand(len(part.heads), -1)
        encoder = self.networks.prompt_encoder
        with torch.no_grad():
            prompts, empty = encoder(part.identity.to(self.device)), encoder.empty_prompt(len(part.heads))
        rays = encode_rays(
            part.cam2world,
            part.intrinsics,
            reference=reference_view(given),
            resolution=part.latents.shape[-1],
            encoding=self.params.unet.ray_encoding,
            device=self.device,
        )
        return TrainingBatch(
            latents=part.latents.to(self.device),
            is_conditioning=given.to(self.device),
            rays=rays,
            prompt_embeds=prompts,
            empty_prompt_embeds=empty,
            drop_identity=noise.drop_identity[rows].to(self.device),
            drop_images=noise.drop_images[rows].to(self.device),
        )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median time of some work."""
    found = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        found.append(time.perf_counter() - began)
    return float(np.median(found))


@contextmanager
def peak_memory(device: torch.device, to: list[float]) -> Iterator[None]:
    """Appends the peak of the memory in use during the block, in MB: the device's, or this process's on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield
        to.append(torch.cuda.max_memory_allocated(device) / 1e6)
        return
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    yield
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    to.append(peak * 1024 / 1e6 or psutil.Process().memory_info().rss / 1e6)


def product_rate(precision: str, device: torch.device, side: int = 2048) -> float:
    """Operations per second of a matrix product in this precision: the machine's own peak in practice."""
    dtype = autocast_dtype(precision) or torch.float32  # type: ignore[arg-type]
    a = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / seconds_of(lambda: a @ a, device, repeats=7)


def step_operations(loop: ProjectLoop, number: int) -> int:
    """Operations of the forward and backward pass of a step, by torch's counter; without those of recomputation."""
    groups = loop.batches.read(number)
    with FlopCounterMode(display=False) as counter:
        backward(loop.training.state, groups, number)
    loop.training.state.clear_gradients()
    return int(counter.get_total_flops())


def part_costs(loop: ProjectLoop, number: int, repeats: int) -> dict[str, float]:
    """Seconds of each part of a step, each measured on its own."""
    training, state, device = loop.training, loop.training.state, loop.processes.device
    params, groups = training.params, loop.batches.read(number)
    part = next(groups.parts(params.micro_batch or len(groups.heads)))
    scale = len(groups.heads) / len(part.heads)
    noise, losses = StepNoise.drawn(part, number, params), []

    def forward() -> None:
        losses[:] = [state.model(part, noise).mean()]

    raw = loop.batches.read_groups(loop.batches.draw(number), number)
    found = {
        "reading": seconds_of(lambda: loop.batches.read_groups(loop.batches.draw(number), number), device, repeats),
        "recolouring": seconds_of(lambda: loop.batches.encoded(raw), device, repeats),
        "noise": scale * seconds_of(lambda: StepNoise.drawn(part, number, params), device, repeats),
        "forward": scale * seconds_of(forward, device, repeats),
    }
    both = seconds_of(lambda: (forward(), losses[0].backward()), device, repeats)
    found["backward"] = scale * both - found["forward"]
    norm = state.gradient_norm()
    found["norm"] = seconds_of(state.gradient_norm, device, repeats)
    found["optimiser"] = seconds_of(state.optimiser.step, device, repeats)
    found["averages"] = seconds_of(state.averages.update, device, repeats)
    state.clear_gradients()
    record = training.meter.record(number, 0.0)
    found["logging"] = seconds_of(lambda: training.log.write(record), device, repeats) if training.log else 0.0
    assert bool(norm.isfinite())
    return found
