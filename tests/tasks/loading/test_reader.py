"""The reader of samples: the same bytes as the dataset, from files or from memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.loading.reader import SampleReader
from spinmeround.tasks.loading.view_images import read_views


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


def test_latents_in_memory_equal_those_in_files(heads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents that fit into the limit are read from files once; the batches are the same."""
    dataset, subjects, views = HeadDataset.open(heads), np.array([1, 3]), np.array([[0, 5], [2, 2]])
    expected = SampleReader(dataset, ("latents",)).read(subjects, views)["latents"]
    held = SampleReader(dataset, ("latents",))
    held.hold_latents(range(4), memory_mb=0)
    assert not held._held
    held.hold_latents(range(4), memory_mb=1)
    monkeypatch.setattr(HeadDataset, "read_into", None)
    assert torch.equal(held.read(subjects, views)["latents"], expected)


def test_view_images_are_as_on_disk(heads: Path) -> None:
    """RGB, normals and mask of the requested views."""
    dataset = HeadDataset.open(heads)
    images = read_views(dataset, 4, [5, 0])
    for name, array in dataset.read_views(4, [5, 0]).items():
        np.testing.assert_array_equal(getattr(images, name), array)
