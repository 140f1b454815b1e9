"""What a rehearsal measures, and how it is extrapolated to the full run."""

from pathlib import Path
from typing import Any

import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.rehearsal import stages as module
from spinmeround.tasks.rehearsal.model import ModelCost, equivalent_groups, group_and_step, timed_steps
from spinmeround.tasks.rehearsal.stages import StageCost, rehearse, rehearsed_views
from spinmeround.tasks.stage import Head
from spinmeround.tasks.training.params import SamplesParams, TrainParams, ValidationParams

SMALL = ["render.resolution=16", "sample.resolution=16", "mesh.resolution=48", "train.unet.sample_size=4"]


def test_the_full_run_is_extrapolated_from_heads_without_loading() -> None:
    """Known numbers: 2 s a later head at an eighth of the views, 1000 heads on 4 devices."""
    cost = StageCost(stage="render", seconds=(10.0, 2.0), peak_bytes=1, bytes_per_head=3e6, growth=8.0)
    assert cost.seconds_per_head == 16.0
    assert cost.hours(1000, 4) == pytest.approx(16 * 1000 / 4 / 3600)
    assert cost.gigabytes(1000) == pytest.approx(24.0)
    alone = StageCost(stage="render", seconds=(10.0,), peak_bytes=1, bytes_per_head=0, growth=1.0)
    assert alone.seconds_per_head == 10.0


def test_the_rehearsed_views_include_the_frontal_one() -> None:
    """They are on the ring closest to eye level."""
    grid = rehearsed_views(ViewGrid(), 4)
    assert (grid.azimuths, grid.elevations_deg) == (4, (0.0,))
    assert grid.cameras().azimuth_deg[0] == 0


def test_a_stage_has_its_own_time_memory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One real stage in a separate process; the sizes are those of its artifacts."""
    monkeypatch.setattr(module, "HEAD_STAGES", HEAD_STAGES[:1])
    (cost,) = rehearse(load_profile("demo", SMALL[1:2]), tmp_path, heads=2, views=2, model=False)
    assert (cost.stage, len(cost.seconds), cost.growth, cost.failed) == ("sample", 2, 1.0, ())
    assert min(cost.seconds) > 0
    assert 50e6 < cost.peak_bytes < 4e9
    files = list((tmp_path / "sample").rglob("*.npz"))
    assert cost.bytes_per_head == sum(path.stat().st_size for path in files) / 2


def test_failed_heads_are_left_out_of_later_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their reasons are reported and the others continue; it is an error if no head is left."""
    requested = []

    def results(what: str, function: object, folder: Path, stage: str, heads: list[Head], *rest: object) -> Any:
        requested.append([head.seed for head in heads])
        return {head.id: "no face" if head.seed < len(requested) else 1.0 for head in heads}, 1

    monkeypatch.setattr(module, "call_in_process", results)
    monkeypatch.setattr(module, "_size", lambda *where: 1)
    costs = rehearse(load_profile("demo"), tmp_path, heads=2, views=2, model=False)
    assert next(costs).failed == ("procedural-000000: no face",)
    with pytest.raises(
        SpinMeRoundError, match="rehearsal: score: procedural-000001: no face; no head is left, give more by --heads"
    ):
        next(costs)
    assert requested == [[0, 1], [1]]


def test_too_few_views_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """A group of the training has eight views; the error says so at once, and what to do."""
    with pytest.raises(ConfigError, match=r"--views: expected at least 8, .* got 4; give more, or --no-model"):
        next(iter(rehearse(load_profile("demo"), tmp_path, heads=1, views=4)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_all_stages_of_a_profile_are_rehearsed(tmp_path: Path) -> None:
    """All stages run in order; stages that work by views are extrapolated to all of them. The model's part follows."""
    profile = load_profile("demo", [*SMALL, "plan.first_seed=1", "train.gradient_checkpointing=true"])
    found = list(rehearse(profile, tmp_path, heads=1, views=8))
    costs = {cost.stage: cost for cost in found if isinstance(cost, StageCost)}
    assert list(costs) == [stage.name for stage in HEAD_STAGES]
    assert costs["render"].growth == costs["encode"].growth == 125 / 8
    assert costs["embed"].growth == 65 / 5  # the views that show part of the face
    assert costs["mesh"].growth == 1.0
    assert all(cost.bytes_per_head > 0 for cost in costs.values())
    train, generate, evaluate = (cost for cost in found if isinstance(cost, ModelCost))
    assert (train.part, generate.part, evaluate.part) == ("train", "generate", "evaluate")
    assert min(train.seconds, train.disk_bytes, generate.seconds, evaluate.seconds) > 0
    assert min(train.peak_bytes, generate.peak_bytes) > 200e6
    assert (generate.units, evaluate.units) == (
        profile.evaluate.schedule.steps * profile.evaluate.heads,
        profile.evaluate.heads,
    )


def test_the_training_is_extrapolated_by_its_groups() -> None:
    """Known numbers: 3 stages of groups of 1, 8 and 8 views, 32 groups a step, on 8 devices; half a second of a step is
    not divided, so no number of devices is done before that."""
    train = TrainParams()
    assert [timed_steps(train, groups).phase.groups[0].batch for groups in (1, 2)] == [1, 2]
    watched = train.model_copy(update={"validation": ValidationParams(every=1), "samples": SamplesParams(every=1)})
    assert (timed_steps(watched, 1).validation.every, timed_steps(watched, 1).samples.every) == (0, 0)
    units = (31_000 / 8 + 600_000 + 1_000_000) * 32
    assert equivalent_groups(train) == units
    seconds, step_seconds = group_and_step(2.5, 4.5)
    assert (seconds, step_seconds) == (2.0, 0.5)
    cost = ModelCost(
        part="train",
        unit="a group",
        seconds=seconds,
        units=units,
        peak_bytes=1,
        steps=train.steps,
        step_seconds=step_seconds,
    )
    assert cost.hours(8) == pytest.approx((2 * units / 8 + 0.5 * 1_631_000) / 3600)
    needed = cost.devices(30 * 24)
    assert needed is not None
    assert cost.hours(needed) <= 30 * 24 < cost.hours(needed - 1)
    assert cost.devices(9 * 24) is None
    assert group_and_step(1.0, 2.5) == (1.0, 0.0)
    assert group_and_step(1.0, 0.9) == (1.0, 0.0)
