"""A rehearsal: runs every stage of a profile on a few heads and views, and extrapolates its cost to the full run.

Each stage runs in its own process, so that its peak memory is measured separately. The first head's time includes
loading weights; if more heads are rehearsed, only the later ones are extrapolated. Costs of stages that work view by
view grow with the number of views. All heads are assumed to pass the screen, so the figures are upper bounds.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import (
    ConfigError,
    EnvironmentUnavailable,
    SpinMeRoundError,
    device_failure,
    one_line,
)
from spinmeround.tasks.heads.plan import plan_heads
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.rehearsal.model import ModelCost, rehearse_model
from spinmeround.tasks.rehearsal.subprocess import call_in_process
from spinmeround.tasks.stage import Head, StageSections, head_keys, make_head

LAST_STAGE = HEAD_STAGES[-1].name
_BY_VIEWS = ("render", "normals", "encode")


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of one stage on the rehearsed heads; `growth` is the factor from a rehearsed head to one of full size."""

    stage: str
    seconds: tuple[float, ...]
    peak_bytes: int
    bytes_per_head: float
    growth: float
    failed: tuple[str, ...] = ()
    """Heads that failed, each with its reason."""

    @property
    def seconds_per_head(self) -> float:
        """Seconds for a head of full size; without loading if more than one head was rehearsed."""
        later = self.seconds[1:] or self.seconds
        return float(np.mean(later)) * self.growth

    def hours(self, heads: int, devices: int) -> float:
        """Hours for this many heads on this many devices like the one used here."""
        return self.seconds_per_head * heads / devices / 3600

    def gigabytes(self, heads: int) -> float:
        """Disk space of this many heads, in GB."""
        return self.bytes_per_head * self.growth * heads / 1e9


def rehearse(
    profile: BaseModel, folder: Path, *, heads: int, views: int, model: bool = True
) -> Iterator[StageCost | ModelCost]:
    """Run all stages on `heads` heads with `views` views, in an artifact store in the empty folder `folder`.

    Runs the model's part afterwards, unless `model` is false. A head that fails is left out of later stages.

    Raises:
        ConfigError: there are too few views to train on; nothing has run.
        SpinMeRoundError: no head is left, or a part of the model fails.
    """
    full: Any = profile
    grid = rehearsed_views(full.views, views)
    if model and grid.views < (wanted := full.train.multi_view.largest):
        raise ConfigError(
            f"--views: expected at least {wanted}, the views of a group of train.multi_view, got {grid.views}; give "
            "more, or --no-model"
        )
    small: Any = full.model_copy(update={"views": grid})
    name = full.generator.name if ":" not in full.generator.name else "rehearsal"
    left = plan_heads(name, full.plan.model_copy(update={"heads": heads}))
    sections = {stage.name: stage.sections(small) for stage in HEAD_STAGES}
    keys = {head.id: head_keys(HEAD_STAGES, head, sections) for head in left}
    for stage in HEAD_STAGES:
        inputs = {head.id: {each: keys[head.id][each] for each in stage.inputs} for head in left}
        results, peak = call_in_process(stage.name, _make_heads, folder, stage.name, left, sections[stage.name], inputs)
        failed = tuple(f"{id}: {reason}" for id, reason in results.items() if isinstance(reason, str))
        left = [head for head in left if not isinstance(results[head.id], str)]
        if not left:
            raise SpinMeRoundError(f"rehearsal: {stage.name}: {failed[0]}; no head is left, give more by --heads")
        yield StageCost(
            stage=stage.name,
            seconds=tuple(float(seconds) for seconds in results.values() if not isinstance(seconds, str)),
            peak_bytes=peak,
            bytes_per_head=float(np.mean([_size(folder, stage.name, keys[head.id][stage.name]) for head in left])),
            growth=_growth(stage.name, full, grid),
            failed=failed,
        )
    if model:
        yield from rehearse_model(small, folder, {head.id: keys[head.id] for head in left})


def rehearsed_views(grid: ViewGrid, views: int) -> ViewGrid:
    """At most `views` views of a grid, on the ring closest to eye level, the frontal view included."""
    elevation = min(grid.elevations_deg, key=abs)
    return grid.model_copy(update={"azimuths": max(1, min(views, grid.azimuths)), "elevations_deg": (elevation,)})


def _growth(stage: str, profile: Any, grid: ViewGrid) -> float:
    if stage in _BY_VIEWS:
        return float(profile.views.views / grid.views)
    if stage == "embed":
        full, small = (profile.embed.facing.select(each.cameras()).sum() for each in (profile.views, grid))
        return float(full / small)
    return 1.0


def _size(folder: Path, stage: str, key: str) -> int:
    files = ArtifactStore(folder).open(stage, key).manifest.files
    return sum(file.size for file in files.values())


Results = dict[str, float | str]
"""Seconds by the head's id, or the reason of its failure."""


def _make_heads(
    folder: Path,
    stage: str,
    heads: Sequence[Head],
    sections: StageSections,
    inputs: Mapping[str, Mapping[str, str]],
) -> Results:
    store, chosen = ArtifactStore(folder), next(each for each in HEAD_STAGES if each.name == stage)
    results: Results = {}
    for head in heads:
        began = time.perf_counter()
        try:
            make_head(store, chosen, head, sections, inputs[head.id])
            results[head.id] = time.perf_counter() - began
        except Exception as error:
            if isinstance(error, EnvironmentUnavailable) or device_failure(error) is not None:
                raise
            results[head.id] = one_line(error)
    return results
