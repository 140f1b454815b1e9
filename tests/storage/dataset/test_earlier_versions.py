"""Datasets that released versions published stay readable: these bytes are kept, not made by today's code."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.storage.dataset import HeadDataset, verify
from tests.support.heads import make_head

PUBLISHED = sorted((Path(__file__).parents[2] / "data").glob("*/*.zarr"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_a_dataset_of_a_released_version_opens(path: Path) -> None:
    """It verifies, keeps the digest of its name, and has the arrays that were written then."""
    assert verify(path) == []
    data = HeadDataset.open(path)
    assert data.digest.startswith(path.stem)
    assert data.ids == ("procedural-000000", "procedural-000001")
    for index, seed in enumerate(data.seeds):
        head, views = make_head(int(seed)), range(4)
        for name, pixels in data.read_views(index, views, ("rgb", "normals", "mask")).items():
            np.testing.assert_array_equal(pixels, getattr(head, name))
        np.testing.assert_array_equal(data.identities[index], head.identity)
        np.testing.assert_array_equal(data.cameras(index)["cam2world"], head.cam2world)


def test_every_released_version_is_tested() -> None:
    """A missing fixture is an error, not an empty parametrisation."""
    assert [path.parent.name for path in PUBLISHED] == ["0.1.0"]
