"""A rehearsal: runs every stage of a profile on a few heads and views, and extrapolates its cost to the full run.

Each stage runs in its own process, so that its peak memory is measured separately. The first head's time includes
loading weights; if more heads are rehearsed, only the later ones are extrapolated. Costs of stages that work view by
view grow with the number of views. All heads are assumed to pass the screen, so the figures are upper bounds.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from spinmeround.tasks.rehearsal.costs import (
    ModelCost,
    Resources,
    StageCost,
    TrainingForecast,
    training_processes,
)
from spinmeround.tasks.rehearsal.model import rehearse_model
from spinmeround.tasks.rehearsal.subprocess import call_in_process, cpu_seconds
from spinmeround.tasks.stage import Head, StageSections, head_keys, make_head

LAST_STAGE = HEAD_STAGES[-1].name
_BY_VIEWS = ("render", "normals", "encode")


def rehearse(
    profile: BaseModel, folder: Path, *, heads: int, views: int, devices: int, resources: Resources, model: bool = True
) -> Iterator[StageCost | ModelCost | TrainingForecast]:
    """Run all stages on `heads` heads with `views` views, in an artifact store in the empty folder `folder`.

    Runs the model's part afterwards, unless `model` is false, for a full run on so many `devices`. A head that fails is
    left out of later stages.

    Raises:
        ConfigError: there are too few views to train on, or devices for the training's processes; nothing has run.
        SpinMeRoundError: no head is left, or a part of the model fails.
    """
    full: Any = profile
    grid = rehearsed_views(full.views, views)
    if model and grid.views < (wanted := full.train.multi_view.largest):
        raise ConfigError(
            f"--views: expected at least {wanted}, the views of a group of train.multi_view, got {grid.views}; give "
            "more, or --no-model"
        )
    if model:
        training_processes(full.train, devices)
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
            seconds=tuple(took.seconds for took in results.values() if not isinstance(took, str)),
            cpu_seconds=tuple(took.cpu_seconds for took in results.values() if not isinstance(took, str)),
            peak_bytes=peak.host,
            device_bytes=peak.device,
            bytes_per_head=float(np.mean([_size(folder, stage.name, keys[head.id][stage.name]) for head in left])),
            growth=_growth(stage.name, full, grid),
            views=_views(stage.name, full, grid),
            on_gpu=stage.bound(sections[stage.name]).on_gpu,
            failed=failed,
        )
    if model:
        yield from rehearse_model(small, folder, {head.id: keys[head.id] for head in left}, devices, resources)


def rehearsed_views(grid: ViewGrid, views: int) -> ViewGrid:
    """At most `views` views of a grid, on the ring closest to eye level, the frontal view included."""
    elevation = min(grid.elevations_deg, key=abs)
    return grid.model_copy(update={"azimuths": max(1, min(views, grid.azimuths)), "elevations_deg": (elevation,)})


def _views(stage: str, profile: Any, grid: ViewGrid) -> int:
    """Views of a grid that a stage works on; 0 for a stage whose cost does not depend on them."""
    if stage in _BY_VIEWS:
        return grid.views
    return int(profile.embed.facing.select(grid.cameras()).sum()) if stage == "embed" else 0


def _growth(stage: str, profile: Any, grid: ViewGrid) -> float:
    small = _views(stage, profile, grid)
    return _views(stage, profile, profile.views) / small if small else 1.0


def _size(folder: Path, stage: str, key: str) -> int:
    files = ArtifactStore(folder).open(stage, key).manifest.files
    return sum(file.size for file in files.values())


class Took(NamedTuple):
    """Time of one head: by the clock, and of all cores together."""

    seconds: float
    cpu_seconds: float


Results = dict[str, Took | str]
"""Times by the head's id, or the reason of its failure."""


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
        began, spent = time.perf_counter(), cpu_seconds()
        try:
            make_head(store, chosen, head, sections, inputs[head.id])
            results[head.id] = Took(time.perf_counter() - began, cpu_seconds() - spent)
        except Exception as error:
            if isinstance(error, EnvironmentUnavailable) or device_failure(error) is not None:
                raise
            results[head.id] = one_line(error)
    return results
