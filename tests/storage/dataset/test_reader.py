"""Reading datasets and splitting them."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.models.geometry.cameras import orbit
from spinmeround.storage.dataset import (
    HeadDataset,
    HeadEntry,
    SplitFractions,
    add_latents,
    info,
    publish,
    split_of,
    write_head,
)
from spinmeround.storage.errors import DatasetError
from tests.support.heads import flip_bit, make_head, write_all_latents, write_heads


@pytest.fixture
def dataset(tmp_path: Path) -> HeadDataset:
    published = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(3)), {"licence": "none"})
    return HeadDataset.open(published.path)


def test_reads_what_was_written(dataset: HeadDataset) -> None:
    """Views of any head, in any order and repeated, equal the written values."""
    for subject in range(3):
        head = make_head(subject)
        for views in ([0], [3, 1], [2, 2], [3, 2, 1, 0], []):
            found = dataset.read_views(subject, views, ["rgb", "normals", "mask", "identity_views"])
            for name, array in found.items():
                assert array.flags.c_contiguous
                np.testing.assert_array_equal(array, getattr(head, name)[views])
    assert list(dataset.seeds) == [0, 1, 2]
    assert dataset.ids == ("procedural-000000", "procedural-000001", "procedural-000002")
    np.testing.assert_array_equal(dataset.identities[1], make_head(1).identity)


def test_cameras_have_the_names_of_the_shared_record(dataset: HeadDataset) -> None:
    """The cameras of a head are valid arguments of `Cameras`."""
    from spinmeround.models.geometry.cameras import Cameras

    cameras = Cameras(**dataset.cameras(2))
    np.testing.assert_array_equal(cameras.cam2world, make_head(2).cam2world)
    np.testing.assert_array_equal(cameras.azimuth_deg, make_head(2).azimuth)
    assert len(cameras) == dataset.views == 4


def test_heads_seen_from_elsewhere_have_angles_of_their_own(tmp_path: Path) -> None:
    """A head whose cameras are 10 degrees further round than the grid has those angles; another keeps the grid's."""
    grid, moved = make_head(0), make_head(1)
    cameras = orbit(moved.azimuth + 10.0, moved.elevation - 5.0)
    heads = [
        replace(head, cam2world=orbit(*angles).cam2world)
        for head, angles in (
            (grid, (grid.azimuth, grid.elevation)),
            (moved, (moved.azimuth + 10.0, moved.elevation - 5.0)),
        )
    ]
    for head in heads:
        write_head(tmp_path / head.id, head)
    entries = [HeadEntry(id=head.id, folder=tmp_path / head.id) for head in heads]
    dataset = HeadDataset.open(publish(tmp_path / "datasets", entries, {}).path)
    for subject, expected in enumerate((orbit(grid.azimuth, grid.elevation), cameras)):
        found = dataset.cameras(subject)
        np.testing.assert_allclose(found["azimuth_deg"], expected.azimuth_deg, atol=1e-4)
        np.testing.assert_allclose(found["elevation_deg"], expected.elevation_deg, atol=1e-4)
    np.testing.assert_array_equal(dataset.cameras(0)["azimuth_deg"], grid.azimuth)


@pytest.mark.parametrize(
    ("direction", "view"), [((0.0, 0.0), 0), ((29.0, 0.0), 1), ((80.0, 20.0), 3), ((-10.0, 0.0), 0), ((450.0, 0.0), 3)]
)
def test_the_nearest_view_is_the_one_with_the_smallest_angle(
    dataset: HeadDataset, direction: tuple[float, float], view: int
) -> None:
    """The views are at azimuths 0, 30, 60 and 90 degrees; azimuths are cyclic."""
    assert dataset.nearest_view(*direction) == view


def test_the_nearest_view_needs_finite_angles(dataset: HeadDataset) -> None:
    """NaN is an error, not the first view."""
    with pytest.raises(ValueError, match="finite degrees"):
        dataset.nearest_view(float("nan"))


def test_latents_are_read_by_name(tmp_path: Path, dataset: HeadDataset) -> None:
    """Latents are read like images; without latents the error names the stage that makes them."""
    with pytest.raises(DatasetError, match="expected latents, found none"):
        dataset.read_views(0, [0], ["latents/rgb"])
    with pytest.raises(DatasetError, match="run the stage encode"):
        dataset.latents_attributes()
    add_latents(dataset.path, write_all_latents(tmp_path / "latents", list(dataset.ids)), "autoencoder")
    latents = dataset.read_views(1, [3, 0], ["latents/rgb", "latents/normals"])
    expected = np.random.default_rng(1).normal(size=(2, 4, 4, 2, 2)).astype(np.float16)
    np.testing.assert_array_equal(latents["latents/normals"], expected[1][[3, 0]])


def test_a_dataset_can_be_pickled(dataset: HeadDataset) -> None:
    """An unpickled dataset reads the same views, as in a spawned worker."""
    before = dataset.read_views(1, [0])["rgb"]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.read_views(1, [0])["rgb"], before)


def test_invalid_requests(dataset: HeadDataset) -> None:
    """Errors for unknown heads, views, arrays and splits list the valid values."""
    with pytest.raises(DatasetError, match="subject 3: expected a number from 0 to 2"):
        dataset.read_views(3, [0])
    with pytest.raises(DatasetError, match=r"views .* from 0 to 3"):
        dataset.read_views(0, [4])
    with pytest.raises(DatasetError, match="array 'depth': expected one of rgb"):
        dataset.read_views(0, [0], ["depth"])
    with pytest.raises(DatasetError, match="split 'dev': expected one of train"):
        dataset.split("dev")
    with pytest.raises(DatasetError, match="expected a dataset folder"):
        HeadDataset.open(dataset.path / "nowhere")


def test_damaged_shards_raise_errors(dataset: HeadDataset) -> None:
    """A flipped bit, a truncated and a missing shard raise errors that name head and array."""
    for damage in (flip_bit, lambda path: path.write_bytes(path.read_bytes()[:-30]), Path.unlink):
        damage(dataset.path / "rgb/c.1.0.0.0.0")
        with pytest.raises(DatasetError, match=r"head procedural-000001.*rgb.*dataset verify"):
            [HeadDataset.open(dataset.path).read_views(1, [view], ["rgb"]) for view in range(4)]
        HeadDataset.open(dataset.path).read_views(0, [0])


def test_info(dataset: HeadDataset) -> None:
    """The summary has counts, sizes, splits and attributes."""
    facts = info(dataset.path)
    assert (facts["heads"], facts["views"], facts["resolution"]) == (3, 4, [8, 8])
    assert facts["digest"] == dataset.digest
    assert sum(facts["splits"].values()) == 3
    assert facts["attributes"]["licence"] == "none"
    assert facts["bytes"]["rgb"] > 0
    assert facts["latents"] is None


def test_splits_partition_the_heads(dataset: HeadDataset) -> None:
    """Every head is in exactly one split."""
    parts = [subject for name in ("train", "validation", "test") for subject in dataset.split(name)]
    assert sorted(parts) == [0, 1, 2]


def test_split_rule_is_stable() -> None:
    """Known ids have known splits: the rule must never change."""
    fractions = SplitFractions(validation=0.2, test=0.2)
    splits = [split_of(f"procedural-{seed:06d}", fractions) for seed in range(12)]
    assert "".join(split[0] for split in splits) == "ttttvttvvttt"


@given(st.text(max_size=30), st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0, 0.09))
def test_larger_test_split_keeps_its_heads(id: str, test: float, validation: float, more: float) -> None:
    """A head of the test split stays in it when that split grows."""
    if split_of(id, SplitFractions(validation=validation, test=test)) == "test":
        assert split_of(id, SplitFractions(validation=validation, test=test + more)) == "test"


def test_split_fractions_are_met() -> None:
    """Over many heads the shares match the fractions within the counting error."""
    fractions = SplitFractions(validation=0.1, test=0.2)
    splits = [split_of(f"panohead-{seed:06d}", fractions) for seed in range(20_000)]
    assert abs(splits.count("test") / 20_000 - 0.2) < 0.01
    assert abs(splits.count("validation") / 20_000 - 0.1) < 0.01
