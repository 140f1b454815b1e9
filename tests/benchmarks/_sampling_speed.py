"""Time and peak memory of one sampling configuration in a separate process: the pipeline's, or a plain baseline.

The baseline uses two forward passes for guidance, eager mode and float32, runs the text encoder and encodes the cameras
at each step, and generates one group at a time.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinmeround.models.diffusion.denoiser import denoise
from spinmeround.models.diffusion.edm import schedule_sigmas
from spinmeround.models.diffusion.params import NoiseSchedule, SolverParams
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.sampling.edm_sampler import draw_noise, edm_sampler, seeded_generators
from spinmeround.models.diffusion.sampling.group_sampler import (
    FramedLatents,
    GroupSampler,
    Seeds,
    camera_rotations,
    generate_views,
)
from spinmeround.models.diffusion.sampling.view_plan import plan_views
from spinmeround.models.geometry.cameras import ViewGrid, orbit

GUIDANCE = 3.0
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
WORDS = ("batched", "compiled", "channels-last", *HALVES)
"""Options of a configuration; `batched` is the default, which the others modify."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement: `ways` are some of WORDS, or "plain"."""

    model: Path
    ways: tuple[str, ...]
    views: int
    steps: int
    repeats: int
    threads: int
    device: str


class PlainSampler(GroupSampler):
    """A GroupSampler without optimisations."""

    prompt_encoder: Any = None
    identity: Tensor | None = None

    def _sample(self, batch: Any, callback: Any) -> Tensor:
        """Samples one group; expects `batch_size` 1."""

        def denoised(noisy: Tensor, sigma: Tensor) -> Tensor:
            given = self.conditions(batch)  # encodes the cameras
            encoder = PlainSampler.prompt_encoder
            known = replace(given, prompt_embeds=encoder(PlainSampler.identity))
            without = denoise(self.unet, noisy, sigma, known.unconditional(encoder.empty_prompt(1)))
            with_conditions = denoise(self.unet, noisy, sigma, known)
            mixed = without + GUIDANCE * (with_conditions - without)
            return torch.where(given.is_conditioning[..., None, None, None], given.conditioning_latents, mixed)

        generators = seeded_generators([batch[0].seed])
        shape = (1, len(batch[0].cameras), *batch[0].conditioning_latents.shape[1:])
        noise = draw_noise(shape, generators, batch[0].conditioning_latents.device)
        made = edm_sampler(denoised, noise, schedule_sigmas(self.schedule), generators, self.solver)
        return made[:, len(batch[0].conditioning_latents) :]


def measure(job: Job) -> dict[str, Any]:
    """Lowest seconds per view over the repeats, peak memory beyond the loaded model, and the latents for comparison."""
    torch.set_num_threads(job.threads)
    dtype = next((HALVES[word] for word in job.ways if word in HALVES), torch.float32)
    model = SpinMeRoundPipeline.from_pretrained(job.model, dtype=dtype, local_files_only=True).to(job.device)
    model.set_progress_bar_config(disable=True)
    if "channels-last" in job.ways:
        model.unet.to(memory_format=torch.channels_last)
    if "compiled" in job.ways:
        model.unet.compile(fullgraph=True)
    work = _work(model, job)
    work(1 if "compiled" in job.ways else 0)
    before, seconds, latents = _memory(job.device), [], torch.zeros(0)
    for _ in range(job.repeats):
        began = time.perf_counter()
        latents = work(job.steps)
        if job.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return {
        "seconds a view": min(seconds) / job.views,
        "peak MB": (_memory(job.device, peak=True) - before) / 1e6,
        "latents": latents.float().cpu().numpy(),
    }


def _work(model: SpinMeRoundPipeline, job: Job) -> Any:
    """A function that returns the latents of all views from one random photo, without the autoencoder, by step
    count."""
    generator = torch.Generator().manual_seed(0)
    side, channels = model.unet.config["base"]["sample_size"], model.unet.view_channels
    photo = torch.randn(1, channels, side, side, generator=generator).to(job.device)
    identity = torch.nn.functional.normalize(torch.randn(1, 512, generator=generator), dim=1).to(job.device)
    cameras, front = ViewGrid(azimuths=job.views, elevations_deg=(0.0,)).cameras(), orbit([0.0], [0.0])
    plain = "plain" in job.ways
    PlainSampler.prompt_encoder, PlainSampler.identity = model.prompt_encoder, identity

    def sampler(schedule: NoiseSchedule) -> GroupSampler:
        kind = PlainSampler if plain else GroupSampler
        return kind(
            unet=model.unet,
            prompt_embeds=model.prompt_encoder(identity.to(model.text_encoder.dtype)),
            empty_prompt_embeds=model.prompt_encoder.empty_prompt(1),
            guidance_scale=GUIDANCE,
            schedule=schedule,
            solver=SolverParams(),
            batch_size=1 if plain else None,
        )

    @torch.no_grad()
    def work(steps: int) -> Tensor:
        if steps == 0:
            return torch.zeros(0)
        plan = plan_views(cameras, front, model.unet.config["views"], anchored=None)
        schedule, seeds = NoiseSchedule(steps=steps), Seeds(generator=torch.Generator().manual_seed(1))
        given = FramedLatents(latents=photo, world2frame=camera_rotations(front, "camera").to(photo.device))
        return generate_views(
            plan,
            (front, given),
            lambda m: sampler(schedule),
            seeds,
            lambda *step: None,
            frame="camera",
            reframe=lambda views, rotations: views.latents,
        ).latents

    return work


def _memory(device: str, *, peak: bool = False) -> float:
    """Bytes of the device's allocator, or of this process: resident now, or its peak since the last call without
    `peak`."""
    if device == "cuda":
        if not peak:
            torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.max_memory_allocated())
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if ":" in line
    )
    if not peak:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    return float(status["VmHWM" if peak else "VmRSS"].split()[0]) * 1024


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference between two runs' latents, in standard deviations."""
    return float(np.abs(a - b).max() / b.std())
