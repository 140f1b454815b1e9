"""The choice of held-out heads and of their conditioning and target views."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from spinmeround.models.geometry.cameras import Cameras, angles_between_deg, orbit
from spinmeround.models.identity.params import ViewRange
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.loading.view_draws import draw_rng

VIEWS, NOISE = range(2)
"""Purposes of random numbers: the choice of a head's views, the noise of its sampling."""


@dataclass(frozen=True, kw_only=True)
class EvaluationViews:
    """One held-out head of the dataset, its conditioning views and its target views."""

    subject: int
    conditioning_indices: list[int]
    targets: list[int]


def choose_views(data: HeadDataset, params: EvaluateParams, frontal: ViewRange) -> list[EvaluationViews]:
    """The heads and their views, a function of `params.seed` and the generator's seed of the head.

    Raises DatasetError if no head is held out or the heads have too few views.
    """
    held_out = list(range(len(data))) if params.split == "all" else data.split("test") or data.split("validation")
    if not held_out:
        raise DatasetError(
            f"{data.path}: expected a head in the split 'test' or 'validation', found none; "
            "build more heads or raise publish.test_share"
        )
    if params.conditioning_views + max(params.targets, 1) > data.views:
        raise DatasetError(
            f"evaluate: expected at most {data.views} views a head, got {params.conditioning_views} conditioning views "
            f"and {params.targets} targets; lower evaluate.targets"
        )
    heads = [(subject, Cameras(**data.cameras(subject))) for subject in held_out[: params.heads or None]]
    return [
        _choose(subject, cameras, frontal.select(cameras), int(data.seeds[subject]), params)
        for subject, cameras in heads
    ]


def _choose(
    subject: int, cameras: Cameras, is_frontal: Bool[np.ndarray, " view"], head_seed: int, params: EvaluateParams
) -> EvaluationViews:
    """Views in random order: first one within `facing_deg`, if any, or the one nearest to the front, and among the
    targets the frontal ones first."""
    order = draw_rng(params.seed, head_seed, VIEWS).permutation(len(cameras))
    facing = ViewRange(max_azimuth_deg=params.facing_deg, max_elevation_deg=90.0).select(cameras)
    first = next((view for view in order if facing[view]), order[0])
    if params.frontal_input:
        first = int(np.argmin(angles_between_deg(cameras, orbit([0.0], [0.0]))[:, 0]))
    order = np.concatenate([[first], order[order != first]])
    conditioning, rest = order[: params.conditioning_views], order[params.conditioning_views :]
    wanted = params.targets or len(rest)
    front = rest[is_frontal[rest]][: min(params.frontal_targets, wanted)]
    others = rest[~np.isin(rest, front)][: wanted - len(front)]
    return EvaluationViews(
        subject=subject, conditioning_indices=conditioning.tolist(), targets=np.concatenate([front, others]).tolist()
    )
