"""Samples of random views: their content, and that it is a function of (seed, epoch, index)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.loading.params import ViewParams
from spinmeround.tasks.loading.samples import HeadStream, HeadViews
from spinmeround.tasks.loading.view_draws import draw_views, facing_views
from tests.support.heads import flip_bit, make_head, write_heads

EVERYTHING = ViewParams(
    arrays=("rgb", "normals", "mask", "latents"), views=4, conditioning_views=1, background="random", seed=3
)


@pytest.fixture
def views(heads: Path) -> HeadViews:
    return HeadViews(HeadDataset.open(heads), range(11), EVERYTHING)


def test_a_sample_is_what_the_dataset_holds(views: HeadViews) -> None:
    """Every tensor of a sample equals the dataset's rows of the views that the sample names."""
    for index in (0, 7, 10):
        sample = views[index]
        head, rows = make_head(index, views=6), sample["views"].numpy()
        for name in ("rgb", "normals", "mask", "cam2world", "intrinsics"):
            np.testing.assert_array_equal(sample[name], getattr(head, name)[rows])
        np.testing.assert_array_equal(sample["identity"], head.identity)
        latents = np.random.default_rng(index).normal(size=(2, 6, 4, 2, 2)).astype(np.float16)
        np.testing.assert_array_equal(sample["latents"], np.concatenate(latents[:, rows], axis=1))
        assert (int(sample["subject"]), int(sample["index"])) == (index, index)


def test_a_sample_has_only_the_requested_arrays(heads: Path) -> None:
    """Without cameras and identity, a sample of latents holds its indices in addition, nothing more."""
    params = ViewParams(arrays=("latents",), views=2, cameras=False, identity=False)
    sample = HeadViews(HeadDataset.open(heads), [4], params)[0]
    assert set(sample) == {"latents", "views", "subject", "index"}
    assert sample["latents"].shape == (2, 8, 2, 2)
    assert sample["latents"].dtype == torch.float16


def test_a_sample_is_a_function_of_seed_epoch_and_index(views: HeadViews) -> None:
    """Another epoch, index or seed gives other views; equal ones give equal samples, from a reopened dataset too."""
    again = HeadViews(HeadDataset.open(views.dataset.path), range(11), EVERYTHING)
    for epoch in (0, 5):
        views.set_epoch(epoch)
        again.set_epoch(epoch)
        for index in range(11):
            assert same(views[index], again[index])
    drawn = set()
    for epoch in range(20):
        views.set_epoch(epoch)
        drawn |= {tuple(views[index]["views"].tolist()) for index in range(11)}
    assert len(drawn) > 150
    other = HeadViews(views.dataset, range(11), EVERYTHING.model_copy(update={"seed": 4}))
    assert not all(torch.equal(views[index]["views"], other[index]["views"]) for index in range(11))


@given(seed=st.integers(0, 2**32))
def test_the_first_view_shows_a_face_if_required(seed: int) -> None:
    """Views differ; the first one is among `facing`, or any view if `facing` is empty."""
    azimuth, rng = np.arange(0, 360, 30, dtype=np.float32), np.random.default_rng(seed)
    views = draw_views(5, facing_views(azimuth), np.arange(12), rng)
    assert len(set(views.tolist())) == 5
    assert abs((azimuth[views[0]] + 180) % 360 - 180) <= 90
    assert {int(draw_views(5, np.arange(0), np.arange(12), rng)[0]) for _ in range(200)} == set(range(12))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_stream_is_the_same_with_any_number_of_workers(views: HeadViews, workers: int) -> None:
    """Batches in the same order with the same bytes, each sample once, the last batch smaller."""
    stream = HeadStream(views, 3)
    stream.position = (2, 1)
    expected = list(stream)
    found = list(DataLoader(stream, batch_size=None, num_workers=workers))
    assert [len(batch["index"]) for batch in expected] == [3, 3, 2]
    assert len(found) == len(expected)
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    views.set_epoch(2)
    for batch in expected:
        for row, index in enumerate(batch["index"].tolist()):
            assert same({name: tensor[row] for name, tensor in batch.items()}, views[index])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_partition_the_samples(views: HeadViews, world: int) -> None:
    """Each sample goes to one rank; with `drop_last` all ranks have equally many, full batches."""
    streams = [HeadStream(views, 2, rank=rank, world=world) for rank in range(world)]
    seen = [index for stream in streams for batch in stream for index in batch["index"].tolist()]
    assert sorted(seen) == list(range(11))
    full = [HeadStream(views, 2, rank=rank, world=world, drop_last=True) for rank in range(world)]
    sizes = {tuple(len(batch["index"]) for batch in stream) for stream in full}
    assert sizes == {(2,) * (11 // world // 2)}


def test_each_epoch_has_its_own_order(views: HeadViews) -> None:
    """Ten epochs have ten permutations of all samples."""
    stream = HeadStream(views, 4)
    orders = {tuple(stream.indices(epoch).tolist()) for epoch in range(10)}
    assert len(orders) == 10
    assert all(sorted(order) == list(range(11)) for order in orders)


def test_an_epoch_has_several_samples_per_head(heads: Path) -> None:
    """Three samples per head, with different views."""
    views = HeadViews(HeadDataset.open(heads), [2, 5], ViewParams(views=3, samples_per_head=3, arrays=("mask",)))
    samples = [views[index] for index in range(len(views))]
    assert [int(sample["subject"]) for sample in samples] == [2, 5, 2, 5, 2, 5]
    assert len({tuple(sample["views"].tolist()) for sample in samples}) > 3


def test_kept_samples_are_not_overwritten(views: HeadViews) -> None:
    """Memory is recycled only if no tensor refers to it, slices included."""
    kept = [(views[index]["rgb"][1:2], views[index]["rgb"][1:2].clone()) for index in range(11)]
    for _ in range(3):
        [views[index] for index in range(11)]
    assert all(torch.equal(slice_, copy) for slice_, copy in kept)


def test_invalid_arguments_are_refused(heads: Path) -> None:
    """No heads, too many views, no batch for a rank: the error says what is expected."""
    dataset = HeadDataset.open(heads)
    with pytest.raises(ConfigError, match="at least one head"):
        HeadViews(dataset, [])
    with pytest.raises(ConfigError, match="at most the dataset's 6, got 8"):
        HeadViews(dataset, [0])
    views = HeadViews(dataset, [0], ViewParams(views=2))
    with pytest.raises(ConfigError, match="0 <= rank < world, got 1, 2, 2"):
        HeadStream(views, 1, rank=2, world=2)
    with pytest.raises(ConfigError, match="a batch for each rank, got 1 samples"):
        HeadStream(views, 2, drop_last=True)
    with pytest.raises(IndexError):
        views[1]


def test_an_error_in_a_worker_names_head_and_array(tmp_path: Path) -> None:
    """A damaged file raises the error of the reader, from a worker too."""
    from spinmeround.storage.dataset import publish

    published = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), {})
    flip_bit(published.path / "normals/c.1.0.0.0.0")
    stream = HeadStream(HeadViews(HeadDataset.open(published.path), range(2), ViewParams(views=4)), 1)
    with pytest.raises(DatasetError, match="head procedural-000001: normals"):
        list(DataLoader(stream, batch_size=None, num_workers=1))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())
