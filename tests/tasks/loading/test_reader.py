"""The reader of samples: the same bytes as the dataset, from files or from memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.storage.dataset import HeadDataset, HeadEntry, PixelCodec, map_views, publish, write_head
from spinmeround.tasks.loading.params import ArrayName
from spinmeround.tasks.loading.reader import SampleReader
from spinmeround.tasks.loading.tensors import as_floats, to_unit_range
from spinmeround.tasks.loading.view_images import read_views
from tests.support.heads import make_head


def test_a_batch_holds_the_requested_views(heads: Path) -> None:
    """Row i of a batch holds the requested views of head i in order, equal to the dataset's own arrays."""
    dataset = HeadDataset.open(heads)
    subjects, views = np.array([7, 2, 7]), np.array([[0, 5], [3, 1], [4, 4]])
    batch = SampleReader(dataset, ("rgb", "mask")).read(subjects, views)
    for row, (subject, chosen) in enumerate(zip(subjects.tolist(), views.tolist(), strict=True)):
        expected = dataset.read_views(subject, chosen, ("rgb", "mask"))
        for name, array in expected.items():
            np.testing.assert_array_equal(batch[name][row], array)
        np.testing.assert_array_equal(batch["cam2world"][row], dataset.cameras(subject)["cam2world"][chosen])
        np.testing.assert_array_equal(batch["identity"][row], dataset.identities[subject])
    assert batch["views"].tolist() == views.tolist()
    assert batch["subject"].tolist() == subjects.tolist()


@pytest.mark.parametrize("codec", [PixelCodec(kind=kind) for kind in ("planes", "plain", "delta")], ids=str)
def test_floats_are_the_bytes_as_contiguous_planes(tmp_path: Path, codec: PixelCodec) -> None:
    """With float32, pictures are contiguous [3, H, W] in [-1, 1], whatever the codec; `as_floats` gives the same."""
    write_head(tmp_path / "head", make_head(3), codec)
    path = publish(tmp_path / "datasets", [HeadEntry(id=make_head(3).id, folder=tmp_path / "head")], {}).path
    dataset, subjects, views = HeadDataset.open(path), np.array([0, 0]), np.array([[3, 1, 0, 2], [0, 1, 2, 3]])
    arrays: tuple[ArrayName, ...] = ("rgb", "normals", "mask")
    stored = SampleReader(dataset, arrays).read(subjects, views)
    floats = SampleReader(dataset, arrays, dtype="float32").read(subjects, views)
    for name in ("rgb", "normals"):
        np.testing.assert_array_equal(stored[name][0], getattr(make_head(3), name)[[3, 1, 0, 2]])
        assert stored[name].movedim(-1, -3).is_contiguous()
        assert floats[name].is_contiguous()
        assert floats[name].abs().max() <= 1
        torch.testing.assert_close(floats[name], stored[name].movedim(-1, -3) / 127.5 - 1, atol=2e-7, rtol=0)
    assert torch.equal(floats["mask"], stored["mask"])
    both = [as_floats(batch | {"background": torch.rand(2, 3).fill_(0.25)}, "camera") for batch in (stored, floats)]
    for name in ("rgb", "normals"):
        torch.testing.assert_close(both[0][name], both[1][name], atol=1e-5, rtol=0)


def test_bytes_become_the_range_from_minus_one_to_one() -> None:
    """0 becomes -1, 255 becomes 1 and not more, and each step is 2 / 255, up to the rounding of float32."""
    found = to_unit_range(torch.arange(256, dtype=torch.uint8), torch.empty(256))
    assert found[0] == -1
    assert 1 - 2e-7 < found[-1] <= 1
    torch.testing.assert_close(found.double(), torch.arange(256).double() / 127.5 - 1, atol=1.2e-7, rtol=0)


@pytest.mark.parametrize("memory_mb", [0, 1], ids=["in mapped files", "in memory"])
def test_latents_held_equal_those_that_are_read(heads: Path, monkeypatch: pytest.MonkeyPatch, memory_mb: int) -> None:
    """Latents that fit into the limit are read once, others are mapped; the batches are those of reading each time."""
    dataset, subjects, views = HeadDataset.open(heads), np.array([1, 3, 1]), np.array([[0, 5], [2, 2], [5, 1]])
    expected = SampleReader(dataset, ("latents",)).read(subjects, views)["latents"]
    held = SampleReader(dataset, ("latents",))
    held.hold_latents(range(4), memory_mb=memory_mb)
    monkeypatch.setattr(HeadDataset, "read_into", None)
    assert torch.equal(held.read(subjects, views)["latents"], expected)


def test_compressed_arrays_are_not_mapped(heads: Path) -> None:
    """Pictures have to be decoded; latents are views of their file, which cannot be written to."""
    dataset = HeadDataset.open(heads)
    assert map_views(dataset, 0, "rgb") is None
    mapped = map_views(dataset, 0, "latents/rgb")
    assert mapped is not None
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, dataset.read_views(0, range(dataset.views), ["latents/rgb"])["latents/rgb"])


def test_view_images_are_as_on_disk(heads: Path) -> None:
    """RGB, normals and mask of the requested views."""
    dataset = HeadDataset.open(heads)
    images = read_views(dataset, 4, [5, 0])
    for name, array in dataset.read_views(4, [5, 0]).items():
        np.testing.assert_array_equal(getattr(images, name), array)
