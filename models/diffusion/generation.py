"""Views from noise: what one group is made from, the sampling of many groups in batches, and all views of a plan.

A group's random numbers come from its own seed, so that the batches change results by rounding alone. Text states and
rays are computed once a group, not once a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float
from torch import Tensor

from models.diffusion.denoiser import Conditions
from models.diffusion.edm import NoiseSchedule
from models.diffusion.groups import ANCHORED_CONDITIONING, Plan
from models.diffusion.guidance import guided_denoiser
from models.diffusion.memory import groups_that_fit
from models.diffusion.params import SolverParams
from models.diffusion.rays import encode_rays, reference_view
from models.diffusion.sampler import draw_noise, edm_sampler, seeded_generators
from models.diffusion.unet import MultiviewUNet
from models.geometry.cameras import Cameras, concatenate

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
        return torch.cat([self._halving(batch, advance) for batch in self.batches(groups)])

    def _halving(self, batch: Sequence[ViewGroup], advance: Advance) -> Tensor:
        """A batch, in halves where it does not fit after all."""
        try:
            return self._sample(batch, advance)
        except RuntimeError as error:
            if len(batch) == 1 or not should_reduce_batch_size(error):
                raise
        half = len(batch) // 2
        return torch.cat([self._halving(part, advance) for part in (batch[:half], batch[half:])])

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
    cameras: Cameras,
    known: tuple[Cameras | None, Float[Tensor, "given channel height width"]],
    sampler: Callable[[int], GroupSampler],
    seeds: Seeds,
    advance: Advance,
) -> Float[Tensor, "target channel height width"]:
    """Latents of the views of `cameras`, in their order. `known` are the given views' cameras and latents, and
    `sampler(m)` samples groups with m given views."""
    given_cameras, given = known
    before = [] if given_cameras is None else [given_cameras]

    def on_given(targets: Cameras) -> Tensor:
        groups = [
            ViewGroup(cameras=concatenate([*before, targets[group]]), given=given, seed=seed)
            for group, seed in zip(plan.first, seeds(len(plan.first)), strict=True)
        ]
        return _in_order(sampler(len(given))(groups, advance), plan.first, len(targets))

    if plan.ring is None:
        return on_given(cameras)
    places, views = concatenate([*before, plan.ring]), torch.cat([given, on_given(plan.ring)])
    groups, own = [], []
    for group, seed in zip(plan.near, seeds(len(plan.near)), strict=True):
        shown = [0, *(1 + anchor for anchor in group.anchors)]  # the photo or the front, then its anchors
        pose = concatenate([places[shown], cameras[group.targets]])
        groups.append(ViewGroup(cameras=pose, given=views[shown], seed=seed))
        own.append(group.targets[: group.counting])
    return _in_order(sampler(ANCHORED_CONDITIONING)(groups, advance), own, len(cameras))


def _in_order(
    made: Float[Tensor, "group target channel height width"], groups: Sequence[Sequence[int]], count: int
) -> Float[Tensor, "{count} channel height width"]:
    """The views by index; each counts where its index comes first."""
    place: dict[int, tuple[int, int]] = {}
    for row, group in enumerate(groups):
        for column, target in enumerate(group):
            place.setdefault(target, (row, column))
    return torch.stack([made[place[target]] for target in range(count)])
