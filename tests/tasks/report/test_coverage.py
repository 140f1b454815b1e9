"""The distribution of views over the sphere: what a dataset covers, what it lacks, and the drawing."""

import re
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, orbit
from spinmeround.storage.dataset import HeadArrays, HeadDataset, HeadEntry, assemble, write_head
from spinmeround.tasks.report.coverage import coverage_drawing, find_gaps, read_coverage

COUNTS = {"asked": 1, "screened_out": {}, "dropped": 0, "quarantined": 0, "written": 1}


def dataset_of(folder: Path, heads: list[Cameras]) -> HeadDataset:
    """A dataset of grey heads with these cameras."""
    entries = []
    for number, cameras in enumerate(heads):
        views = len(cameras)
        arrays = HeadArrays(
            id=f"head-{number}",
            seed=number,
            rgb=np.full((views, 4, 4, 3), 128, np.uint8),
            mask=np.full((views, 4, 4), 255, np.uint8),
            normals=np.full((views, 4, 4, 3), 255, np.uint8),
            cam2world=cameras.cam2world,
            intrinsics=cameras.intrinsics,
            azimuth=heads[0].azimuth_deg,
            elevation=heads[0].elevation_deg,
            identity=np.eye(1, 512, number, dtype=np.float32)[0],
            identity_views=np.full((views, 512), np.nan, np.float32),
        )
        write_head(folder / f"{number}.zarr", arrays)
        entries.append(HeadEntry(id=arrays.id, folder=folder / f"{number}.zarr"))
    split = {"validation": 0.1, "test": 0.1}
    attributes = {"counts": COUNTS, "fingerprints": {}, "licence": "CC0-1.0", "split": split}
    return HeadDataset.open(assemble(folder / "heads.zarr", entries, attributes).path)


def test_a_grid_round_the_head_has_all_sides(tmp_path: Path) -> None:
    """Each view of the grid is a place with one view of each head; no sector lacks a view, the poles are gaps."""
    cameras = ViewGrid(azimuths=8, elevations_deg=(-30.0, 0.0, 30.0)).cameras()
    found = read_coverage(dataset_of(tmp_path, [cameras, cameras]))
    assert sorted(found.number.tolist()) == [2] * 24
    assert [sector.views for sector in found.sectors] == [18, 24, 6]
    assert [sector.heads_without for sector in found.sectors] == [0, 0, 0]
    rows = found.gaps.all(axis=1)
    assert rows[[0, -1]].all()
    assert not rows[18]
    drawing = coverage_drawing(found)
    assert drawing.warning == ""
    assert drawing.summary.startswith("48 views of 2 heads.")
    assert [path.count("M") for _, path in drawing.dots] == [24]


def test_missing_views_of_the_back_are_named(tmp_path: Path) -> None:
    """A capture from the front, and a head with its own cameras that has one view from behind."""
    front, turned = orbit([-60.0, -20.0, 20.0, 60.0], [0.0] * 4), orbit([-60.0, 0.0, 60.0, 170.0], [0.0] * 4)
    alone = coverage_drawing(read_coverage(dataset_of(tmp_path / "one", [front, front])))
    assert alone.warning == "No head has a view of the back (azimuths 135° to 180° on either side)."
    both = read_coverage(dataset_of(tmp_path / "two", [front, turned]))
    assert both.sectors[2].views == both.sectors[2].heads_without == 1
    assert coverage_drawing(both).warning.startswith("1 of 2 heads has no view of the back")
    assert both.near_share > read_coverage(HeadDataset.open(tmp_path / "one" / "heads.zarr")).near_share
    diameters = [diameter for diameter, _ in coverage_drawing(both).dots]
    assert diameters == sorted(diameters, reverse=True)
    assert len(diameters) == 2


def test_one_view_covers_its_cap() -> None:
    """Within 30 degrees of one direction lies (1 - cos 30) / 2 of the sphere, also across the ends of the drawing."""
    for azimuth, elevation in ((0.0, 0.0), (180.0, 20.0), (40.0, 90.0)):
        gaps, near = find_gaps(np.array([azimuth]), np.array([elevation]))
        assert near == pytest.approx((1 - np.cos(np.radians(30))) / 2, rel=0.04)
        assert gaps.any()


def test_the_page_warns_of_missing_views(page: str) -> None:
    """The warning is text, and the table marks the side that heads lack."""
    section = page.split('id="coverage"')[1].split("</section>")[0]
    text = " ".join(re.sub(r"<[^>]+>", " ", section).split())
    assert "Missing views. 1 of 2 heads has no view of the back" in text
    assert section.count('class="lacking"') == 1
    assert "back 1 8% 1" in text
