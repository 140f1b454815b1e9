"""Sampling of groups of views in batches, and generation of all views of a plan.

The random numbers of a group come from its own seed, so batching changes results by rounding alone. Prompt embeddings
and rays are computed once per group, not once per step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Conditions
from spinmeround.models.diffusion.edm import schedule_sigmas
from spinmeround.models.diffusion.normals_frame import world2frame
from spinmeround.models.diffusion.params import NoiseSchedule, NormalsFrame, SolverParams
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.models.diffusion.sampling.edm_sampler import draw_noise, edm_sampler, seeded_generators
from spinmeround.models.diffusion.sampling.guidance import guided_denoiser
from spinmeround.models.diffusion.sampling.memory import halve_on_out_of_memory, max_group_batch
from spinmeround.models.diffusion.sampling.view_plan import GroupedViews, ViewPlan
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.geometry.cameras import Cameras, concatenate

BatchCallback = Callable[[int, float, Tensor], Tensor | None]
"""Called after each step of a batch with step, noise level and latents; a returned tensor replaces the latents."""


@dataclass(frozen=True, kw_only=True)
class ViewGroup:
    """One group to generate. `cameras` holds all of its views, conditioning views first."""

    cameras: Cameras

    conditioning_latents: Float[Tensor, "conditioning channel height width"]
    """Latents of the conditioning views, possibly none, on the network's device."""

    seed: int


@dataclass(frozen=True, kw_only=True)
class GroupSampler:
    """Samples groups with equal numbers of views and of conditioning views."""

    unet: MultiviewUNet
    prompt_embeds: Float[Tensor, "1 text_token text_channel"]
    empty_prompt_embeds: Float[Tensor, "1 text_token text_channel"]
    guidance_scale: float
    schedule: NoiseSchedule
    solver: SolverParams
    batch_size: int | None = None
    """Groups per batch; None selects the largest batch that fits into memory."""

    drop_images: bool = False
    """Give the network zeros for the latents of conditioning views, as condition dropout does: their cameras alone."""

    def batches(self, groups: Sequence[ViewGroup]) -> list[Sequence[ViewGroup]]:
        """The groups in batches."""
        branches = 1 if self.guidance_scale == 1 else 2
        size = self.batch_size or max_group_batch(self.unet, len(groups), branches=branches)
        return [groups[start : start + size] for start in range(0, len(groups), size)]

    def __call__(
        self, groups: Sequence[ViewGroup], callback: BatchCallback
    ) -> Float[Tensor, "group target channel height width"]:
        """Latents of the targets of each group."""
        return torch.cat(
            [halve_on_out_of_memory(lambda part: self._sample(part, callback), batch) for batch in self.batches(groups)]
        )

    def _sample(self, batch: Sequence[ViewGroup], callback: BatchCallback) -> Tensor:
        known = len(batch[0].conditioning_latents)
        targets = len(batch[0].cameras) - known
        conditions = self.conditions(batch)
        sigmas = schedule_sigmas(self.schedule, conditioning_views=known, targets=targets)
        empty = self.empty_prompt_embeds.expand(len(batch), -1, -1)
        denoise = guided_denoiser(self.unet, conditions, empty, self.guidance_scale)
        generators = seeded_generators([group.seed for group in batch])
        clean, channels = conditions.conditioning_latents, self.unet.view_channels
        both = (*clean.shape[:2], 2 * self.unet.latent_channels, *clean.shape[3:])  # images get the same noise alone
        noise = draw_noise(both, generators, clean.device)[:, :, :channels]
        latents = edm_sampler(
            denoise, noise, sigmas, generators, self.solver, lambda step, x: callback(step, float(sigmas[step]), x)
        )
        return latents[:, known:]

    def conditions(self, batch: Sequence[ViewGroup]) -> Conditions:
        """The network's conditions for a batch of groups."""
        given = torch.stack([group.conditioning_latents for group in batch])
        views, known = len(batch[0].cameras), given.shape[1]
        is_conditioning = (torch.arange(views, device=given.device) < known).expand(len(batch), -1)
        targets = given.new_zeros(len(batch), views - known, *given.shape[2:])
        shown = torch.zeros_like(given) if self.drop_images else given
        poses = (
            torch.stack([torch.from_numpy(getattr(group.cameras, name)) for group in batch]).to(given.device)
            for name in ("cam2world", "intrinsics")
        )
        rays = encode_rays(
            *poses,
            reference=reference_view(is_conditioning),
            resolution=given.shape[-1],
            encoding=self.unet.config["ray_encoding"],
        )
        return Conditions(
            is_conditioning=is_conditioning,
            conditioning_latents=torch.cat([shown, targets], dim=1),
            rays=rays,
            prompt_embeds=self.prompt_embeds.expand(len(batch), -1, -1),
        )


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Seeds of groups, drawn from one generator in the order of a plan."""

    generator: torch.Generator | None = None

    def __call__(self, count: int) -> list[int]:
        """The next `count` seeds."""
        device = "cpu" if self.generator is None else self.generator.device
        drawn: list[int] = torch.randint(2**62, (count,), generator=self.generator, device=device).tolist()
        return drawn


@dataclass(frozen=True, kw_only=True)
class FramedLatents:
    """Latents of views, image half first, and the rotation from the world into the frame of each view's normals."""

    latents: Float[Tensor, "view channel height width"]
    world2frame: Float[Tensor, "view 3 3"]

    def __getitem__(self, views: list[int]) -> "FramedLatents":
        return FramedLatents(latents=self.latents[views], world2frame=self.world2frame[views])


Reframe = Callable[[FramedLatents, Float[Tensor, "view 3 3"]], Float[Tensor, "view channel height width"]]
"""Latents with their normals turned into another frame, which takes the autoencoder."""


def generate_views(
    plan: ViewPlan,
    given: tuple[Cameras | None, FramedLatents],
    sampler: Callable[[int], GroupSampler],
    seeds: Seeds,
    callback: BatchCallback,
    *,
    frame: NormalsFrame,
    reframe: Reframe,
) -> FramedLatents:
    """Latents of the requested views, in request order.

    `given` holds cameras and latents of the given views; `sampler(m)` samples groups with m conditioning views.
    `reframe` is called for conditioning views whose normals are not in the `frame` of their group.
    """
    given_cameras, views = given
    cameras = [] if given_cameras is None else [given_cameras]
    for stage in plan.stages:
        if stage.groups:
            groups = _view_groups(stage, cameras, views, seeds, frame, reframe)
            sampled = sampler(len(stage.groups[0].conditioning_indices))(groups, callback)
            rotations = torch.stack([_target_rotations(group, frame) for group in groups]).to(sampled.device)
            views = FramedLatents(
                latents=torch.cat([views.latents, _kept(sampled, stage)]),
                world2frame=torch.cat([views.world2frame, _kept(rotations, stage)]),
            )
            cameras = [*cameras, stage.cameras[: stage.count]]
    return views[plan.sources]


def _view_groups(
    stage: GroupedViews,
    cameras: Sequence[Cameras],
    views: FramedLatents,
    seeds: Seeds,
    frame: NormalsFrame,
    reframe: Reframe,
) -> list[ViewGroup]:
    """The groups of a stage; `cameras` and `views` are those given or generated before."""
    groups = []
    for group, seed in zip(stage.groups, seeds(len(stage.groups)), strict=True):
        indices = [*group.conditioning_indices]
        before = [concatenate(cameras)[indices]] if indices else []
        poses = concatenate([*before, stage.cameras[group.targets]])
        given = views[indices]
        expected = camera_rotations(poses, frame)[: len(indices)].to(given.world2frame)
        same = torch.allclose(given.world2frame, expected, rtol=0.0, atol=1e-6)
        latents = given.latents if same else reframe(given, expected)
        groups.append(ViewGroup(cameras=poses, conditioning_latents=latents, seed=seed))
    return groups


def camera_rotations(cameras: Cameras, frame: NormalsFrame) -> Float[Tensor, "view 3 3"]:
    """Rotations from the world into the frame of the normals of a group's views, in float32 on the CPU."""
    return world2frame(frame, torch.from_numpy(cameras.cam2world).float())


def _target_rotations(group: ViewGroup, frame: NormalsFrame) -> Float[Tensor, "target 3 3"]:
    return camera_rotations(group.cameras, frame)[len(group.conditioning_latents) :]


def _kept(sampled: Float[Tensor, "group target ..."], stage: GroupedViews) -> Float[Tensor, "..."]:
    """The values of the kept targets of all groups, by index."""
    place = {
        target: (row, column)
        for row, group in enumerate(stage.groups)
        for column, target in enumerate(group.targets)
        if target in group.kept
    }
    return torch.stack([sampled[place[target]] for target in range(stage.count)])
