"""What a rehearsal measures, and how it is extrapolated to the full run."""

from pathlib import Path
from typing import Any

import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.rehearsal import stages as module
from spinmeround.tasks.rehearsal.costs import ModelCost, Resources, StageCost
from spinmeround.tasks.rehearsal.stages import Took, rehearse, rehearsed_views
from spinmeround.tasks.rehearsal.subprocess import Peak
from spinmeround.tasks.stage import Head

SMALL = [
    "render.resolution=16",
    "sample.resolution=16",
    "mesh.resolution=48",
    "train.unet.sample_size=4",
    "train.initial.unet=random",
]
ALONE: dict[str, Any] = {"devices": 1, "resources": Resources(workers=1, cores=1)}


def test_the_full_run_is_extrapolated_from_heads_without_loading() -> None:
    """Known numbers: 2 s a later head at an eighth of the views, 1000 heads on 4 devices."""
    cost = StageCost(stage="render", seconds=(10.0, 2.0), peak_bytes=1, bytes_per_head=3e6, growth=8.0, views=4)
    assert cost.seconds_per_head == 16.0
    assert cost.hours(1000, Resources(workers=4, cores=1)) == pytest.approx(16 * 1000 / 4 / 3600)
    assert cost.gigabytes(1000) == pytest.approx(24.0)
    assert cost.basis(1000, Resources(workers=4, cores=1)).startswith("2 heads of 4 views measured; x 8 for all views")
    alone = StageCost(stage="render", seconds=(10.0,), peak_bytes=1, bytes_per_head=0, growth=1.0)
    assert alone.seconds_per_head == 10.0


@pytest.mark.parametrize(
    ("workers", "cores", "divided", "by"),
    [(8, 64, 8.0, "8 (workers)"), (8, 6, 4.0, "4 (cores)"), (1, 64, 1.0, "1 (workers)")],
    ids=["a worker a device", "busy cores", "one worker"],
)
def test_heads_are_divided_as_far_as_the_cores_carry_them(workers: int, cores: int, divided: float, by: str) -> None:
    """Known numbers: a head that keeps one and a half cores busy for two seconds, so six cores carry four."""
    cost = StageCost(
        stage="mesh", seconds=(9.0, 2.0), cpu_seconds=(9.0, 3.0), peak_bytes=1, bytes_per_head=0, growth=1.0
    )
    resources = Resources(workers=workers, cores=cores)
    assert cost.divided(resources) == divided
    assert cost.hours(3600, resources) == 2.0 / divided
    assert cost.basis(3600, resources) == f"2 heads measured; x 3,600 heads / {by}"


def test_the_profile_may_choose_fewer_devices() -> None:
    """By number or by index; more than there are does not help, and all are the default."""
    chosen = [[], ["execution.gpus=1"], ["execution.gpus=[0, 3]"], ["execution.gpus=12"]]
    found = [Resources.of(load_profile("demo", options), devices=8, cores=2).devices for options in chosen]
    assert found == [8, 1, 2, 8]


def test_stages_are_divided_as_a_build_divides_them() -> None:
    """Stages on a device among the workers on devices, the others among those of the cores."""
    profile = load_profile("demo", ["execution.workers_per_gpu=2", "execution.gpus=3"])
    resources = Resources.of(profile, devices=8, cores=64)
    assert (resources.of_stage(on_gpu=True), resources.of_stage(on_gpu=False)) == (6, 64)
    few = Resources.of(load_profile("demo", ["execution.workers=4"]), devices=8, cores=64)
    assert few.of_stage(on_gpu=False) == 4


def test_the_rehearsed_views_include_the_frontal_one() -> None:
    """They are on the ring closest to eye level."""
    grid = rehearsed_views(ViewGrid(), 4)
    assert (grid.azimuths, grid.elevations_deg) == (4, (0.0,))
    assert grid.cameras().azimuth_deg[0] == 0


def test_a_stage_has_its_own_time_memory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One real stage in a separate process; the sizes are those of its artifacts."""
    monkeypatch.setattr(module, "HEAD_STAGES", HEAD_STAGES[:1])
    (cost,) = rehearse(load_profile("demo", SMALL[1:2]), tmp_path, heads=2, views=2, model=False, **ALONE)
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
        return {head.id: "no face" if head.seed < len(requested) else Took(1.0, 0.5) for head in heads}, Peak(1, None)

    monkeypatch.setattr(module, "call_in_process", results)
    monkeypatch.setattr(module, "_size", lambda *where: 1)
    costs = rehearse(load_profile("demo"), tmp_path, heads=2, views=2, model=False, **ALONE)
    assert next(costs).failed == ("procedural-000000: no face",)
    with pytest.raises(
        SpinMeRoundError, match="rehearsal: score: procedural-000001: no face; no head is left, give more by --heads"
    ):
        next(costs)
    assert requested == [[0, 1], [1]]


def test_too_few_views_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """A group of the training has eight views; the error says so at once, and what to do."""
    with pytest.raises(ConfigError, match=r"--views: expected at least 8, .* got 4; give more, or --no-model"):
        next(iter(rehearse(load_profile("demo"), tmp_path, heads=1, views=4, **ALONE)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_all_stages_of_a_profile_are_rehearsed(tmp_path: Path) -> None:
    """All stages run in order; stages that work by views are extrapolated to all of them. The model's part follows."""
    profile = load_profile(
        "demo", [*SMALL, "plan.first_seed=1", "train.gradient_checkpointing=true", "train.random_background=0.5"]
    )
    found = list(rehearse(profile, tmp_path, heads=1, views=8, **ALONE))
    costs = {cost.stage: cost for cost in found if isinstance(cost, StageCost)}
    assert list(costs) == [stage.name for stage in HEAD_STAGES]
    assert costs["render"].growth == costs["encode"].growth == 125 / 8
    assert costs["embed"].growth == 65 / 5  # the views that show part of the face
    assert costs["mesh"].growth == 1.0
    assert all(cost.bytes_per_head > 0 for cost in costs.values())
    train, recolour, generate, evaluate = (cost for cost in found if isinstance(cost, ModelCost))
    parts = (train.part, recolour.part, generate.part, evaluate.part)
    assert parts == ("train", "recolour", "generate", "evaluate")
    assert train.unit == "4 groups of 8 views at once"  # the demo's batch, in one forward pass
    assert min(train.seconds, train.disk_bytes, generate.seconds, evaluate.seconds) > 0
    assert min(train.peak_bytes, recolour.peak_bytes, generate.peak_bytes) > 200e6
    assert (generate.units, evaluate.units) == (
        profile.evaluate.schedule.steps * profile.evaluate.heads,
        profile.evaluate.heads,
    )
