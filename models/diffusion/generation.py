"""Views from noise: what one group is made from, the sampling of many groups in batches, and all views of a plan.

A group's random numbers come from its own seed, so that the batches change results by rounding alone. Text states and
rays are computed once a group, not once a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Conditions
from spinmeround.models.diffusion.edm import NoiseSchedule
from spinmeround.models.diffusion.groups import GroupedViews, Plan
from spinmeround.models.diffusion.guidance import guided_denoiser
from spinmeround.models.diffusion.memory import groups_that_fit, in_halves
from spinmeround.models.diffusion.params import SolverParams
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.models.diffusion.sampler import draw_noise, edm_sampler, seeded_generators
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.geometry.cameras import Cameras, concatenate

Advance = Callable[[int, float, Tensor], Tensor | None]
"""Called after each step of a batch with the step, its noise level and the latents; may return others to go on with."""


@dataclass(frozen=True, kw_only=True)
class ViewGroup:
    """One group to generate. `cameras` are those of all its views, the given ones first."""

    cameras: Cameras
    given: Float[Tensor, "given channel height width"]
    """Latents of the given views, on the device where the network is; none of them is fine."""

    seed: int


@dataclass(frozen=True, kw_only=True)
class GroupSampler:
    """Samples groups that are of one size and have as many given views."""

    unet: MultiviewUNet
    text: Float[Tensor, "1 word state"]
    empty_text: Float[Tensor, "1 word state"]
    guidance_scale: float
    schedule: NoiseSchedule
    solver: SolverParams
    batch_size: int | None = None
    """Groups at once; None takes as many as fit into the memory there is."""

    def batches(self, groups: Sequence[ViewGroup]) -> list[Sequence[ViewGroup]]:
        """The groups in batches of the size that is set or fits."""
        branches = 1 if self.guidance_scale == 1 else 2
        size = self.batch_size or groups_that_fit(self.unet, len(groups), branches=branches)
        return [groups[start : start + size] for start in range(0, len(groups), size)]

    def __call__(
        self, groups: Sequence[ViewGroup], advance: Advance
    ) -> Float[Tensor, "group target channel height width"]:
        """Latents of the targets of each group."""
        return torch.cat([in_halves(lambda part: self._sample(part, advance), batch) for batch in self.batches(groups)])

    def _sample(self, batch: Sequence[ViewGroup], advance: Advance) -> Tensor:
        conditions, sigmas = self.conditions(batch), self.schedule.sigmas()
        empty = self.empty_text.expand(len(batch), -1, -1)
        denoise = guided_denoiser(self.unet, conditions, empty, self.guidance_scale)
        generators = seeded_generators([group.seed for group in batch])
        noise = draw_noise(conditions.clean.shape, generators, conditions.clean.device)
        latents = edm_sampler(
            denoise, noise, sigmas, generators, self.solver, lambda step, x: advance(step, float(sigmas[step]), x)
        )
        return latents[:, len(batch[0].given) :]

    def conditions(self, batch: Sequence[ViewGroup]) -> Conditions:
        """What the network knows of a batch of groups."""
        given = torch.stack([group.given for group in batch])
        views, known = len(batch[0].cameras), given.shape[1]
        is_given = (torch.arange(views, device=given.device) < known).expand(len(batch), -1)
        targets = given.new_zeros(len(batch), views - known, *given.shape[2:])
        poses = (
            torch.stack([torch.from_numpy(getattr(group.cameras, name)) for group in batch]).to(given.device)
            for name in ("cam2world", "intrinsics")
        )
        rays = encode_rays(
            *poses,
            reference=reference_view(is_given),
            resolution=given.shape[-1],
            encoding=self.unet.config["ray_encoding"],
        )
        return Conditions(
            conditioning=is_given,
            clean=torch.cat([given, targets], dim=1),
            rays=rays,
            text=self.text.expand(len(batch), -1, -1),
        )


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Seeds of groups, drawn from one generator in the order of a plan."""

    generator: torch.Generator | None = None

    def __call__(self, count: int) -> list[int]:
        device = "cpu" if self.generator is None else self.generator.device
        drawn: list[int] = torch.randint(2**62, (count,), generator=self.generator, device=device).tolist()
        return drawn


def generate_plan(
    plan: Plan,
    known: tuple[Cameras | None, Float[Tensor, "given channel height width"]],
    sampler: Callable[[int], GroupSampler],
    seeds: Seeds,
    advance: Advance,
) -> Float[Tensor, "target channel height width"]:
    """Latents of the views that were planned for, in the order asked. `known` are the given views' cameras and latents,
    and `sampler(m)` samples groups with m given views."""
    given_cameras, views = known
    cameras = [] if given_cameras is None else [given_cameras]
    for stage in (plan.ring, plan.targets):
        if stage is not None and stage.groups:
            groups = _view_groups(stage, cameras, views, seeds)
            made = sampler(len(stage.groups[0].shown))(groups, advance)
            views, cameras = torch.cat([views, _own(made, stage)]), [*cameras, stage.cameras[: stage.counting]]
    return views[plan.sources]


def _view_groups(
    stage: GroupedViews, cameras: Sequence[Cameras], views: Float[Tensor, "view channel height width"], seeds: Seeds
) -> list[ViewGroup]:
    """The groups of a stage; `cameras` and `views` are what was given or made before."""
    groups = []
    for group, seed in zip(stage.groups, seeds(len(stage.groups)), strict=True):
        shown = [*group.shown]
        before = [concatenate(cameras)[shown]] if shown else []
        pose = concatenate([*before, stage.cameras[group.targets]])
        groups.append(ViewGroup(cameras=pose, given=views[shown], seed=seed))
    return groups


def _own(
    made: Float[Tensor, "group target channel height width"], stage: GroupedViews
) -> Float[Tensor, "view channel height width"]:
    """The views that count, by index."""
    place = {
        target: (row, column)
        for row, group in enumerate(stage.groups)
        for column, target in enumerate(group.targets)
        if target in group.own
    }
    return torch.stack([made[place[target]] for target in range(stage.counting)])
