"""Each chunk of the latents carries its CRC-32C; latents that were written without it still open."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from spinmeround.storage.dataset import HeadDataset, HeadEntry, add_latents, publish, verify, write_latents
from spinmeround.storage.errors import DatasetError
from tests.support.cases import CASES
from tests.support.heads import flip_bit, write_all_latents, write_heads

LATENTS = ("latents/rgb", "latents/normals")
OLD = CASES / "latents_without_checksum" / "57bce8248f36.zarr"


@pytest.mark.parametrize("name", ["rgb", "normals"])
@pytest.mark.parametrize("position", [0.0, 0.2, 0.4, 0.6, 0.8, 0.999])
def test_a_flipped_bit_in_the_latents_is_an_error(tmp_path: Path, name: str, position: float) -> None:
    """A flipped bit anywhere in a shard of latents, values or index, raises when its views are read."""
    head = write_heads(tmp_path / "heads", range(1))
    path = publish(tmp_path / "datasets", head, {}).path
    add_latents(path, write_all_latents(tmp_path / "latents", [head[0].id]), "autoencoder")
    HeadDataset.open(path).read_views(0, range(4), LATENTS)
    flip_bit(path / "latents" / name / "c.0.0.0.0.0", position)
    with pytest.raises(DatasetError, match=f"latents/{name}"):
        HeadDataset.open(path).read_views(0, range(4), LATENTS)


def test_values_are_raw_and_zarr_reads_them(tmp_path: Path) -> None:
    """zarr reads the same values from a dataset, and a chunk is its bytes and four more."""
    rgb, normals = np.random.default_rng(0).normal(size=(2, 3, 4, 2, 2)).astype(np.float16)
    (head,) = write_heads(tmp_path / "heads", range(1), views=3)
    write_latents(tmp_path / "head", rgb, normals)
    path = publish(tmp_path / "datasets", [head], {}).path
    add_latents(path, [HeadEntry(id=head.id, folder=tmp_path / "head")], "autoencoder")
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["latents/rgb"][0], rgb)
    np.testing.assert_array_equal(group["latents/normals"][0], normals)
    assert (tmp_path / "head/rgb.chunk").stat().st_size == rgb.nbytes + 3 * 4 + 16 * 3 + 4


def test_latents_without_checksum_still_open(tmp_path: Path) -> None:
    """A dataset whose latents are raw chunks alone opens, reads as zarr reads it, and verifies."""
    path = Path(shutil.copytree(OLD, tmp_path / OLD.name))
    assert verify(path) == []
    found, group = HeadDataset.open(path).read_views(1, [0, 1], LATENTS), zarr.open_group(path, mode="r")
    for name in LATENTS:
        np.testing.assert_array_equal(found[name], group[name][1])
