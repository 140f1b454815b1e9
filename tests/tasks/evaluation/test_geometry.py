"""The consistency of predicted views through the hull of the true masks: true views, swapped ones, and no geometry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, pixel_rays
from spinmeround.models.metrics.consistency import pair_consistency
from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.dataset import HeadArrays, HeadDataset, HeadEntry, assemble, write_head
from spinmeround.tasks.evaluation.evaluator import Evaluator
from spinmeround.tasks.evaluation.geometry import target_depth
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import EvaluationViews
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import read_views
from tests.support.tiny import TinyGenerator
from tests.support.weights import write_recognition
from tests.tasks.conftest import head as unrelated

GRID, SIDE = ViewGrid(azimuths=16, elevations_deg=(-20.0, 0.0, 20.0)), 48
TARGETS = [1, 18, 20, 25, 33, 44]


@pytest.fixture(scope="module")
def rendered() -> tuple[HeadArrays, np.ndarray]:
    """A head from all sides whose colours depend on the surface point alone, with its true depths."""
    generator, cameras = TinyGenerator(), GRID.cameras()
    drawn = generator.render(generator.sample(3), cameras, SIDE)
    origins, directions = pixel_rays(cameras, SIDE)
    along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
    colour = 127 + 100 * np.sin(8 * (origins + directions * (drawn.depth / along)[..., None]))
    random = np.random.default_rng(0).normal(size=512).astype(np.float32)
    head = HeadArrays(
        id="tiny-000003",
        seed=3,
        rgb=np.where(np.isfinite(colour), colour, 255).round().astype(np.uint8),
        mask=drawn.mask,
        normals=np.full_like(drawn.rgb, 128),
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
        identity=random / np.linalg.norm(random),
        identity_views=np.full((len(cameras), 512), np.nan, np.float32),
    )
    return head, drawn.depth


def dataset_of(head: HeadArrays, folder: Path) -> HeadDataset:
    write_head(folder / head.id, head)
    attributes = {"split": {"validation": 0.0, "test": 0.9}, "without_normals": [head.id]}
    return HeadDataset.open(
        assemble(folder / "heads.zarr", [HeadEntry(id=head.id, folder=folder / head.id)], attributes).path
    )


def test_true_views_are_consistent_and_swapped_ones_are_not(
    rendered: tuple[HeadArrays, np.ndarray], tmp_path: Path
) -> None:
    """True pictures as the prediction have the value of the truth, which is above 33 dB and no better than through the
    true depth. Pictures at each other's cameras lose more than 6 dB of it, and so do those with random colours."""
    head, depth = rendered
    data = dataset_of(head, tmp_path)
    evaluate = Evaluator(data, EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx"))), None)
    views = EvaluationViews(subject=0, conditioning_indices=[0], targets=TARGETS)
    truth = read_views(data, 0, TARGETS)

    def consistency(rgb: np.ndarray) -> float:
        value = evaluate(views, Prediction(rgb=rgb), truth).metrics["consistency"]
        assert value is not None
        return value

    best = evaluate.of_truth(views, truth).metrics["consistency"]
    assert consistency(truth.rgb) == best
    cameras = Cameras(**data.cameras(0))[TARGETS]
    assert 33 < best < pair_consistency(truth.rgb, depth[TARGETS], cameras).psnr
    assert consistency(np.roll(truth.rgb, 2, axis=0)) < best - 6
    tinted = truth.rgb.astype(int) + np.random.default_rng(1).integers(-60, 60, (len(TARGETS), 1, 1, 3))
    assert consistency(np.clip(tinted, 0, 255).astype(np.uint8)) < best - 6


def test_a_head_without_geometry_is_named(rendered: tuple[HeadArrays, np.ndarray], tmp_path: Path) -> None:
    """Background that stays, views of one side, and outlines of no solid each have their reason."""
    head, _ = rendered
    front = [view for view in range(GRID.views) if view % 16 in (0, 1, 2, 14, 15)]
    half = {
        name: getattr(head, name)[front]
        for name in ("rgb", "mask", "normals", "cam2world", "intrinsics", "azimuth", "elevation", "identity_views")
    }
    emptied = head.mask.copy()
    emptied[5] = 0
    for name, changed, reason in (
        ("background", replace(head, mask=np.full_like(head.mask, 255)), "the background stays"),
        ("front", replace(head, **half), "the views leave 270 degrees of azimuth open"),
        ("emptied", replace(head, mask=emptied), "not those of one solid"),
    ):
        found = target_depth(dataset_of(changed, tmp_path / name), 0, [1, 2], SIDE)
        assert isinstance(found, Missing)
        assert reason in found.reason
    depth = target_depth(dataset_of(unrelated(1), tmp_path / "ball"), 0, [6], 16)
    assert np.isfinite(np.asarray(depth)).any()
