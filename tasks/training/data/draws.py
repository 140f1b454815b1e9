"""The heads and views of a training step.

The kind of group that a step trains on is a function of (seed, step), each sample a function of (seed, step, index),
where `index` counts the groups of the step's whole batch. So a batch has the same groups in one process and in many,
and an interrupted training resumes with the same batches. The first views of a group are its conditioning views. The
very first view, conditioning or not, is the reference of the cameras and shows part of the face (|azimuth| up to 90
degrees, or less by `facing_deg`). The other views are any views, or neighbours by `nearest`. All views of a group
differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.tasks.loading.view_draws import draw_rng, draw_views, facing_views, nearest_views
from spinmeround.tasks.training.params.phases import GroupParams, TrainingPhase

GROUP, VIEWS, COLOURS, DROPS, NOISE = range(5)
"""Purposes of random numbers: the group and the dropouts and noise of a step, the views and background of a sample."""

Share = Callable[[int], Sequence[int]]
"""The indices, in a batch of a given number of groups, that one process computes; `range` is all of them."""


@dataclass(frozen=True, kw_only=True)
class GroupDraw:
    """The heads and views of one step, or of a share of it.

    `views[i]` are of head `subjects[i]`, the first `conditioning` of them given. It is group `indices[i]` of the
    `batch` groups of the step.
    """

    subjects: Int64[np.ndarray, " sample"]
    views: Int64[np.ndarray, "sample view"]
    conditioning: int
    indices: tuple[int, ...]
    batch: int


def draw_kind(phase: TrainingPhase, *, seed: int, step: int) -> GroupParams:
    """Draw the kind of the groups of one step, by weight."""
    weights = np.array([group.weight for group in phase.groups])
    return phase.groups[int(draw_rng(seed, step, 0, GROUP).choice(len(weights), p=weights / weights.sum()))]


def draw_groups(
    phase: TrainingPhase,
    subjects: Sequence[int],
    cameras_of: Callable[[int], Cameras],
    *,
    batch: int,
    seed: int,
    step: int,
    share: Share = range,
) -> GroupDraw:
    """Draw the heads and views of one step; `batch` is the number of groups if their kind sets none.

    `cameras_of` gives those of all views of a head. Raises ValueError if they are fewer than the views of a group.
    """
    if phase.largest > (views := len(cameras_of(subjects[0]))):
        raise ValueError(f"train: expected {phase.largest} views a head or more, the dataset has {views}")
    group = draw_kind(phase, seed=seed, step=step)
    whole = group.batch or batch
    indices, drawn, rows = tuple(share(whole)), [], []
    for index in indices:
        rng = draw_rng(seed, step, index, VIEWS)
        drawn.append(int(rng.choice(np.asarray(subjects))))
        rows.append(_draw_group_views(group, cameras_of(drawn[-1]), rng))
    return GroupDraw(
        subjects=np.array(drawn), views=np.stack(rows), conditioning=group.conditioning, indices=indices, batch=whole
    )


def _draw_group_views(group: GroupParams, cameras: Cameras, rng: np.random.Generator) -> Int64[np.ndarray, " view"]:
    facing, others = facing_views(cameras.azimuth_deg, group.facing_deg), np.arange(len(cameras))
    if group.nearest:
        others = nearest_views(cameras, int(rng.integers(len(cameras))), group.nearest)
    return draw_views(group.views, facing, others, rng)
