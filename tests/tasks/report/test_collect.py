"""Collecting report data from a small run on disk, built with the real store and dataset."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import HeadArrays, HeadEntry, assemble, write_head
from spinmeround.storage.errors import StoreError
from spinmeround.storage.records import Rendering
from spinmeround.tasks.heads.registry import PUBLISHED_STAGES
from spinmeround.tasks.heads.review import review
from spinmeround.tasks.heads.sample_files import Previews, write_previews
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.report.collect import (
    FinishedRun,
    collect_report,
    evenly_spaced,
    read_curves,
    training_chain,
    training_phases,
)
from spinmeround.tasks.report.evaluations import ranked
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.render import run_report
from spinmeround.tasks.stage import Head
from tests.tasks.report.synthetic import evaluation, novel_views, views

GRID = ViewGrid(azimuths=4, elevations_deg=(-15.0, 0.0))
HEADS = tuple(Head(id=f"procedural-{seed:06d}", seed=seed) for seed in range(5))
WRITTEN, DROPPED, QUARANTINED = HEADS[:3], HEADS[3], HEADS[4]
KEPT_BY_REVIEW = WRITTEN[2]


def put(
    store: ArtifactStore,
    stage: str,
    subject: str,
    fill: Callable[[Path], Any],
    inputs: Mapping[str, str] | None = None,
) -> str:
    """Commit one artifact, and return its key."""
    params, inputs = {"subject": subject}, inputs or {}
    key = artifact_key(stage, 1, params, inputs)
    with store.commit(stage, key, version=1, params=params, inputs=inputs, weights="", subject=subject) as out:
        fill(out)
    return key


def write_sample(folder: Path, seed: int) -> None:
    cameras = ViewGrid(azimuths=8, elevations_deg=(0.0,)).cameras()
    rgb, mask, _ = views(seed, cameras, 32)
    rendering = Rendering(rgb=rgb, mask=mask, depth=np.ones(mask.shape, np.float32))
    write_previews(folder, Previews(rendering=rendering, cameras=cameras))


def write_review(folder: Path, head: Head) -> None:
    reasons = ("clipped_volume",) if head in (DROPPED, KEPT_BY_REVIEW) else ()
    verdict = Verdict(keep=not reasons, reasons=reasons, scores={"clipped_volume": 0.1 * bool(reasons)})
    final = review(verdict, "keep" if head == KEPT_BY_REVIEW else None)
    (folder / "review.json").write_text(json.dumps(asdict(final)))


def write_group(folder: Path, head: Head) -> None:
    cameras = GRID.cameras()
    rgb, mask, normals = views(head.seed, cameras, 32)
    arrays = HeadArrays(
        id=head.id,
        seed=head.seed,
        rgb=rgb,
        mask=mask,
        normals=normals,
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
        identity=np.eye(1, 512, dtype=np.float32)[0],
        identity_views=np.full((len(cameras), 512), np.nan, np.float32),
    )
    write_head(folder / "head.zarr", arrays)


def write_evaluation(folder: Path) -> None:
    shown = [novel_views(seed) for seed in (0, 1)]
    measured = evaluation()
    heads = [
        {
            "id": each.id,
            "scores": {"model": dict(each.metrics)},
            "views": {"model": {"psnr": [None, *map(float, range(1, len(each.azimuth_deg)))]}},
        }
        for each in shown
    ]
    found = {"model": measured.model, "baselines": measured.baselines, "methods": measured.methods, "heads": heads}
    intervals = {"model": {"l2": {"mean": 0.0184, "low": 0.01, "high": 0.03, "heads": 2}}}
    comparisons = {"nearest_input_view": {"l2": {"difference": intervals["model"]["l2"], "p_value": 0.5}}}
    found |= {"missing": measured.missing, "intervals": intervals, "comparisons": comparisons}
    (folder / "evaluation.json").write_text(json.dumps(found))
    names = [name for name, value in vars(shown[0]).items() if isinstance(value, np.ndarray)]
    np.savez(folder / "pictures.npz", **{name: np.stack([getattr(each, name) for each in shown]) for name in names})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> FinishedRun:
    root = tmp_path_factory.mktemp("run")
    store = ArtifactStore(root / "store")
    keys: dict[str, dict[str, str]] = {}
    for head in HEADS:
        sample = put(store, "sample", head.id, lambda out, head=head: write_sample(out, head.seed))
        judged = put(store, "review", head.id, lambda out, head=head: write_review(out, head))
        keys[head.id] = {
            "sample": sample,
            "review": judged,
            **{stage: artifact_key(stage, 1, {"subject": head.id}, {}) for stage in PUBLISHED_STAGES},
        }
    entries = []
    for head in WRITTEN:
        for stage in PUBLISHED_STAGES:
            key = put(store, stage, head.id, lambda out, head=head: write_group(out, head))
        entries.append(HeadEntry(id=head.id, folder=store.path("embed", key) / "head.zarr"))
    for head in (QUARANTINED, Head(id="procedural-000099", seed=99)):
        key = artifact_key("embed", 1, {"subject": head.id}, {})
        store.record_failure("embed", key, head.id, "ValueError: no surface", "traceback", attempts=2)
    counts = {"asked": 5, "screened_out": {"clipped_volume": 1}, "dropped": 1, "quarantined": 1, "written": 3}
    counts |= {"kept_by_review": 1}
    attributes = {
        "counts": counts,
        "fingerprints": {"generator": "abc"},
        "licence": "CC0-1.0",
        "split": {"validation": 0.1, "test": 0.1},
    }
    info = assemble(root / "heads.zarr", entries, attributes)
    history = [{"step": step, "loss": 1.0 / step} for step in range(1, 6)]
    return FinishedRun(
        name="small",
        store=store,
        heads=HEADS,
        keys=keys,
        dataset=info.path,
        training=("train", put(store, "train", "model", lambda out: _dump(out / "history.json", history))),
        evaluation=("evaluate", put(store, "evaluate", "model", write_evaluation)),
        stages={
            "screen": {"made": 4, "reused": 1, "seconds": 2.5},
            "publish": {"made": 1, "reused": 0, "seconds": 0.1},
        },
        parameters={"screen": {"level": 10.0}, "generator": {"name": "procedural"}, "publish": {"licence": "CC0-1.0"}},
    )


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def test_heads_are_collected_by_outcome(run: FinishedRun):
    """Written heads are kept, dropped heads have reasons and scores, failures of other runs are ignored."""
    data = collect_report(run, ReportParams())
    assert [card.id for card in data.kept] == [head.id for head in WRITTEN]
    assert [(card.id, card.reasons, card.scores) for card in data.dropped] == [
        (DROPPED.id, ("clipped_volume",), {"clipped_volume": 0.1})
    ]
    assert [(card.id, card.reasons) for card in data.kept_by_review] == [(KEPT_BY_REVIEW.id, ("clipped_volume",))]
    assert [(each.id, each.stage, each.attempts) for each in data.quarantined] == [(QUARANTINED.id, "embed", 2)]
    assert (data.counts.asked, data.counts.written, data.counts.kept_by_review) == (5, 3, 1)


def test_kept_cards_show_front_and_back(run: FinishedRun):
    """A kept head shows its views nearest to azimuth 0 and 180 at elevation 0, a dropped one all its previews."""
    data = collect_report(run, ReportParams())
    np.testing.assert_array_equal(data.kept[1].pictures, views(1, GRID.cameras()[[4, 6]], 32)[0])
    previews = ViewGrid(azimuths=8, elevations_deg=(0.0,)).cameras()
    np.testing.assert_array_equal(data.dropped[0].pictures, views(DROPPED.seed, previews, 32)[0])
    assert data.dropped[0].captions[:3] == ("0°", "45°", "90°")


def test_viewer_has_the_datasets_views(run: FinishedRun):
    """All views in dataset order, unchanged if they fit the viewer's resolution."""
    orbit = collect_report(run, ReportParams()).orbit
    assert orbit is not None
    rgb, mask, normals = views(2, GRID.cameras(), 32)
    np.testing.assert_array_equal(orbit.heads[2].rgb, rgb)
    np.testing.assert_array_equal(orbit.heads[2].mask, mask)
    np.testing.assert_array_equal(orbit.heads[2].normals, normals)
    np.testing.assert_array_equal(orbit.azimuth_deg, GRID.cameras().azimuth_deg)


def test_training_and_evaluation_are_read_back(run: FinishedRun):
    """Losses, metrics and pictures equal those in the files."""
    data = collect_report(run, ReportParams())
    np.testing.assert_allclose(data.curves[0].loss, [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    intervals, p_values = {"model": {"l2": (0.01, 0.03)}}, {"nearest_input_view": {"l2": 0.5}}
    assert data.evaluation is not None
    (by_view,) = data.evaluation.views
    found = replace(data.evaluation, views=())
    assert found == replace(evaluation(), heads=2, intervals=intervals, p_values=p_values, views=())
    assert by_view.metric == "psnr"
    np.testing.assert_array_equal(by_view.azimuth_deg, np.tile(novel_views(0).azimuth_deg, 2))
    np.testing.assert_array_equal(by_view.values["model"], np.tile([np.nan, 1, 2, 3, 4, 5, 6], 2))
    np.testing.assert_array_equal(data.novel_views[1].generated_rgb, novel_views(1).generated_rgb)
    assert data.novel_views[1].metrics == novel_views(1).metrics


def test_stages_have_their_version_and_the_sections_that_they_read(run: FinishedRun):
    """A head stage has its version and sections; any other stage has the section of the same name."""
    screen, publish = collect_report(run, ReportParams()).stages
    assert screen.version is not None
    assert (screen.made, screen.reused, screen.seconds) == (4, 1, 2.5)
    assert screen.parameters == {"screen": {"level": 10.0}}
    assert publish.parameters == {"publish": {"licence": "CC0-1.0"}}


def test_report_of_a_run_is_the_same_each_time(run: FinishedRun, tmp_path):
    """The report contains the date of the data, not of rendering."""
    first = run_report(run, tmp_path / "first.html", ReportParams()).read_bytes()
    assert run_report(run, tmp_path / "second.html", ReportParams()).read_bytes() == first
    day = run.store.open(*run.evaluation).manifest.created[:10]
    assert f'datetime="{day}"'.encode() in first


def test_report_before_training(run: FinishedRun, tmp_path):
    """A run without training has no curves and no metrics; the date is that of the newest head."""
    data = collect_report(replace(run, training=None, evaluation=None), ReportParams())
    assert (data.curves, data.novel_views, data.evaluation) == ((), (), None)
    assert data.data_date == run.store.open("embed", run.keys[WRITTEN[0].id]["embed"]).manifest.created[:10]


def test_limits_bound_what_is_read(run: FinishedRun):
    """The size of the report does not grow with the dataset; heads are evenly spaced."""
    data = collect_report(run, ReportParams(kept_heads=1, viewer_heads=2, dropped_heads=0, novel_heads=1))
    assert (len(data.kept), len(data.orbit.heads), len(data.dropped), len(data.novel_views)) == (1, 2, 0, 1)
    assert evenly_spaced(range(10), 3) == [0, 3, 6]
    assert evenly_spaced(range(2), 3) == [0, 1]


def test_missing_training_is_named(run: FinishedRun):
    """A missing artifact raises an error that names the stage."""
    with pytest.raises(StoreError, match="train"):
        collect_report(replace(run, training=("train", "0" * 64)), ReportParams())


def test_the_trainings_that_one_begins_with_come_first(tmp_path):
    """The curves of a chain are in the order of its phases."""
    store, inputs = ArtifactStore(tmp_path), {}
    for number, name in enumerate(("adapt", "single-view", "multi-view")):
        history = {"runs": [{"name": name, "history": [{"step": 1, "loss": float(number)}]}]}
        inputs = {name: put(store, name, "model", lambda out, h=history: _dump(out / "history.json", h), inputs=inputs)}
    curves = [read_curves(each)[0] for each in training_chain(store, store.open("multi-view", inputs["multi-view"]))]
    assert [curve.name for curve in curves] == ["adapt", "single-view", "multi-view"]
    assert [curve.loss.tolist() for curve in curves] == [[0.0], [1.0], [2.0]]


def test_phases_without_steps_are_left_out():
    """The last step of a phase is the sum of its steps and those of all phases before it."""
    params = {"adapt": {"steps": 30}, "single_view": {"steps": 0}, "multi_view": {"steps": 70}, "batch": 4}
    assert training_phases(params) == (("adapt", 30), ("multi view", 100))


@pytest.mark.parametrize("named", [True, False], ids=["named runs", "plain list"])
def test_both_forms_of_a_history_are_read(named: bool, tmp_path):
    """Several named runs in one file give several curves; a plain list gives one."""
    history = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    runs = {"runs": [{"name": name, "history": history} for name in ("autoencoder", "model")]}
    store = ArtifactStore(tmp_path)
    key = put(store, "train", "model", lambda out: _dump(out / "history.json", runs if named else history))
    curves = read_curves(store.open("train", key))
    assert [curve.name for curve in curves] == (["autoencoder", "model"] if named else ["training"])
    assert all((curve.loss == [0.5, 0.25]).all() for curve in curves)


def test_the_best_the_median_and_the_worst_head_come_first():
    """By PSNR, whatever the order of the heads; heads without a value have no rank, and few heads none at all."""
    assert ranked([3.0, None, 9.0, 1.0, 5.0]) == {
        2: "best of 4 heads by PSNR",
        4: "median of 4 heads by PSNR",
        3: "worst of 4 heads by PSNR",
    }
    assert list(ranked([1.0, 2.0, 3.0])) == [2, 1, 0]
    assert ranked([1.0, 2.0, None]) == {}
