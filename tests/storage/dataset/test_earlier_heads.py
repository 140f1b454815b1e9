"""Heads in stores of version 0.1.0, Zarr groups with nested chunk keys, are read and published beside today's."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from spinmeround.storage.codec import DEFAULT_CODEC
from spinmeround.storage.dataset import (
    ARRAYS,
    HeadDataset,
    HeadEntry,
    add_latents,
    publish,
    read_pictures,
    verify,
)
from spinmeround.storage.dataset.schema import LATENT_ARRAYS, create_array
from spinmeround.storage.errors import DatasetError
from tests.support.heads import make_head, write_all_latents, write_heads, zarr_of


def nested(entry: HeadEntry, folder: Path) -> HeadEntry:
    """The same head as version 0.1.0 wrote it."""
    named = json.loads((entry.folder / "arrays.json").read_text())
    arrays = named.pop("arrays")
    specs = ARRAYS if "mask" in arrays else LATENT_ARRAYS
    group, found = zarr.create_group(folder, attributes=named, zarr_format=3), zarr_of(entry.folder)
    axes = {axis: size for name, spec in specs.items() for (axis, _), size in _sizes(spec, arrays[name]["shape"])}
    for name, spec in specs.items():
        create_array(group, name, spec, axes, DEFAULT_CODEC, "/")[...] = found[name][...]
    return HeadEntry(id=entry.id, folder=folder)


def _sizes(spec, shape):
    return zip(spec.axes, shape, strict=True)


def test_heads_of_an_earlier_version_give_the_same_dataset(tmp_path: Path) -> None:
    """A dataset of nested heads, of today's and of both has one digest, and so have its latents."""
    today = write_heads(tmp_path / "heads", range(3))
    earlier = [nested(entry, tmp_path / "earlier" / entry.id) for entry in today]
    assert (earlier[0].folder / "rgb/c/0/0/0/0/0").is_file()
    mixed = [earlier[0], today[1], earlier[2]]
    found = [publish(tmp_path / name, heads, {}) for name, heads in (("a", today), ("b", earlier), ("c", mixed))]
    assert len({each.digest for each in found}) == 1
    latents = write_all_latents(tmp_path / "latents", [head.id for head in today])
    old = [nested(entry, tmp_path / "earlier-latents" / entry.id) for entry in latents]
    digests = {add_latents(each.path, of, "autoencoder") for each, of in zip(found, (latents, old, old), strict=True)}
    assert len(digests) == 1
    assert [verify(each.path) for each in found] == [[], [], []]
    np.testing.assert_array_equal(HeadDataset.open(found[1].path).read_views(2, [1])["rgb"][0], make_head(2).rgb[1])


def test_pictures_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    """The stages read the pixels of artifacts of both layouts."""
    (today,) = write_heads(tmp_path / "heads", range(1))
    for entry in (today, nested(today, tmp_path / "earlier")):
        np.testing.assert_array_equal(read_pictures(entry.folder, "rgb", "mask")["rgb"], make_head(0).rgb)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"arrays": []}', b'{"arrays": {"rgb": 1}}', b"\xff", b"[" * 100_000]
)
def test_damaged_metadata_of_a_head_are_refused(tmp_path: Path, content: bytes) -> None:
    """Anything but a map of metadata is an error that names the file."""
    (today,) = write_heads(tmp_path / "heads", range(1))
    (today.folder / "arrays.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"arrays\.json"):
        read_pictures(today.folder, "rgb")
