"""Publishing: the content of a dataset, its digest, and what is never overwritten."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from spinmeround.storage.dataset import (
    HeadDataset,
    HeadEntry,
    HeadParts,
    PixelCodec,
    add_latents,
    assemble,
    publish,
    verify,
    write_head,
)
from spinmeround.storage.errors import DatasetError, StorageUnavailable
from tests.support.heads import all_latents, flip_bit, make_head, write_all_latents, write_heads
from tests.support.manifests import digest_of, names
from tests.support.processes import kill_at_random

ATTRIBUTES: dict[str, Any] = {"generator": {"name": "procedural"}, "counts": {"requested": 3}}


def test_plain_zarr_reads_everything(tmp_path: Path) -> None:
    """`zarr.open` alone, without this package, reads all arrays, the names of their axes and the attributes."""
    heads = write_heads(tmp_path / "heads", range(3))
    info = publish(tmp_path / "datasets", heads, ATTRIBUTES)
    group = zarr.open(str(info.path), mode="r")
    for subject, seed in enumerate(range(3)):
        head = make_head(seed)
        assert group.attrs["ids"][subject] == head.id
        for name in ("rgb", "normals", "mask", "cam2world", "intrinsics", "identity", "identity_views"):
            np.testing.assert_array_equal(group[name][subject], getattr(head, name))
        for name in ("azimuth", "elevation"):
            np.testing.assert_array_equal(group[name][:], getattr(head, name))
    assert group["seed"][:].tolist() == [0, 1, 2]
    assert group["status"][:].tolist() == [1, 1, 1]
    assert group["rgb"].metadata.dimension_names == ("subject", "view", "height", "width", "channel")
    assert group["rgb"].shards == (1, 4, 8, 8, 3)
    assert group["rgb"].chunks == (1, 1, 8, 8, 3)
    assert {array.metadata.dimension_names[0] for _, array in _arrays(group)} == {"subject", "view"}
    assert group.attrs["generator"] == {"name": "procedural"}
    assert group.attrs["schema_version"] == 1


def _arrays(group: zarr.Group) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        return list(group.arrays())


def test_digest_depends_only_on_content(tmp_path: Path) -> None:
    """Order, place, order of attributes, and links or copies do not change the digest."""
    heads = write_heads(tmp_path / "a", range(3))
    again = write_heads(tmp_path / "b", range(2, -1, -1))
    first = publish(tmp_path / "one", heads, ATTRIBUTES)
    second = publish(tmp_path / "two", again, dict(reversed(ATTRIBUTES.items())))
    assert first.digest == second.digest
    assert first.path.name == f"{first.digest[:12]}.zarr"


def _parts(entry: HeadEntry, seed: int, **changes: np.ndarray) -> HeadParts:
    """The head of an entry with its pixel arrays from the group and its other arrays from memory."""
    head = make_head(seed)
    rows = {name: getattr(head, name)[None] for name in ("cam2world", "intrinsics", "identity", "identity_views")}
    rows |= {"azimuth": head.azimuth, "elevation": head.elevation}
    rows |= {"seed": np.array([seed]), "status": np.ones(1, np.uint8), **changes}
    return HeadParts(
        id=entry.id, pictures=dict.fromkeys(("rgb", "mask", "normals"), entry.folder), read=rows.__getitem__
    )


def test_heads_in_parts_give_the_same_dataset(tmp_path: Path) -> None:
    """Arrays from memory give the same bytes as arrays from a group."""
    heads = write_heads(tmp_path / "heads", range(3))
    whole = publish(tmp_path / "whole", heads, ATTRIBUTES)
    parts = publish(tmp_path / "parts", [_parts(head, seed) for seed, head in enumerate(heads)], ATTRIBUTES)
    assert parts.digest == whole.digest
    assert verify(parts.path) == []


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("cam2world", np.zeros((1, 3, 4, 4), np.float32)),
        ("identity", np.zeros((1, 512))),
        ("azimuth", np.zeros(4, "f4")),
    ],
    ids=["shape", "type", "grid"],
)
def test_arrays_of_parts_are_checked(tmp_path: Path, name: str, array: np.ndarray) -> None:
    """Arrays from memory with another shape or type, or of another view grid, are rejected by head and name."""
    heads = write_heads(tmp_path / "heads", range(2))
    with pytest.raises(DatasetError, match=f"head procedural-000001: {name}"):
        publish(tmp_path / "datasets", [_parts(heads[0], 0), _parts(heads[1], 1, **{name: array})], ATTRIBUTES)


@pytest.mark.parametrize("change", ["pixel", "attribute", "head"])
def test_digest_changes_with_content(tmp_path: Path, change: str) -> None:
    """Another pixel, attribute or head changes the digest."""
    first = publish(tmp_path / "one", write_heads(tmp_path / "a", range(3)), ATTRIBUTES)
    heads = write_heads(tmp_path / "b", range(4 if change == "head" else 3))
    if change == "pixel":
        head = make_head(1)
        rgb = head.rgb.copy()
        rgb[0, 4, 4] ^= 1
        shutil.rmtree(heads[1].folder)
        write_head(heads[1].folder, dataclasses.replace(head, rgb=rgb))
    attributes = {**ATTRIBUTES, "counts": {"requested": 4}} if change == "attribute" else ATTRIBUTES
    assert publish(tmp_path / "two", heads, attributes).digest != first.digest


def test_digest_of_known_content(tmp_path: Path) -> None:
    """The digest is SHA-256 over the sorted (part, SHA-256) list, and `sha256sum` checks the files of the listing."""
    info = publish(tmp_path / "datasets", write_heads(tmp_path / "a", range(2)), ATTRIBUTES)
    assert info.digest == digest_of(info.path)
    assert json.loads((info.path / "manifest.json").read_text())["digest"] == info.digest
    files = {path.relative_to(info.path).as_posix() for path in info.path.rglob("*") if path.is_file()}
    assert sorted(names(info.path)) == sorted(each for each in files if not each.startswith(("manifest", "listing")))
    check = "awk '{print $1\"  \"$3}' listing/*.txt | sha256sum --check --quiet"
    subprocess.run(check, shell=True, check=True, cwd=info.path)


def test_publishing_copies_no_pixels(tmp_path: Path) -> None:
    """Pixel files of the dataset are hard links to those of the artifacts."""
    heads = write_heads(tmp_path / "heads", range(2))
    info = publish(tmp_path / "datasets", heads, ATTRIBUTES)
    for subject, head in enumerate(heads):
        for file in ("rgb/c.{}.0.0.0.0", "normals/c.{}.0.0.0.0", "mask/c.{}.0.0.0", "identity_views/c.{}.0.0"):
            assert (info.path / file.format(subject)).samefile(head.folder / f"{file.split('/')[0]}.chunk")


def test_copies_where_links_fail(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    """On another file system the pixel files are copied, and the digest is the same."""
    heads = write_heads(tmp_path / "heads", range(2))
    linked = publish(tmp_path / "datasets", heads, ATTRIBUTES)
    copied = publish(small_disk("size=4m"), heads, ATTRIBUTES)
    assert copied.digest == linked.digest
    assert verify(copied.path) == []


def test_intact_target_is_reused(tmp_path: Path) -> None:
    """Publishing the same dataset again changes no file."""
    heads = write_heads(tmp_path / "heads", range(2))
    info = assemble(tmp_path / "x.zarr", heads, ATTRIBUTES)
    before = (info.path / "manifest.json").stat()
    assert assemble(tmp_path / "x.zarr", heads, ATTRIBUTES) == info
    assert (info.path / "manifest.json").stat().st_ino == before.st_ino
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp", "heads", "x.zarr"]


def test_damaged_target_is_moved_aside_and_remade(tmp_path: Path) -> None:
    """A dataset with a missing or truncated file is moved aside and replaced."""
    heads = write_heads(tmp_path / "heads", range(2))
    info = assemble(tmp_path / "x.zarr", heads, ATTRIBUTES)
    (info.path / "rgb/c.0.0.0.0.0").unlink()
    assert assemble(tmp_path / "x.zarr", heads, ATTRIBUTES) == info
    assert verify(info.path) == []
    assert len(list((tmp_path / ".corrupt").iterdir())) == 1


def test_damaged_manifest_is_moved_aside_if_the_name_is_the_digest(tmp_path: Path) -> None:
    """A published folder with a missing or broken manifest is moved aside and replaced."""
    heads = write_heads(tmp_path / "heads", range(2))
    info = publish(tmp_path / "datasets", heads, ATTRIBUTES)
    for damage in (Path.unlink, lambda path: path.write_text("{")):
        damage(info.path / "manifest.json")
        assert publish(tmp_path / "datasets", heads, ATTRIBUTES) == info
        assert verify(info.path) == []
    assert len(list((tmp_path / "datasets" / ".corrupt").iterdir())) == 2


def test_other_dataset_is_never_overwritten(tmp_path: Path) -> None:
    """A target that holds another dataset, or anything else, is refused and stays unchanged."""
    heads = write_heads(tmp_path / "heads", range(3))
    info = assemble(tmp_path / "x.zarr", heads[:2], ATTRIBUTES)
    with pytest.raises(DatasetError, match="holds another dataset"):
        assemble(tmp_path / "x.zarr", heads, ATTRIBUTES)
    assert verify(info.path) == []
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"notes.*expected the manifest of a dataset"):
        assemble(tmp_path / "notes", heads, ATTRIBUTES)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="found a file"):
        assemble(tmp_path / "file", heads, ATTRIBUTES)
    assert (tmp_path / "notes" / "thesis.tex").read_text() == "years of work"


def test_growing_keeps_old_versions(tmp_path: Path) -> None:
    """Version 1 keeps its digest after heads are added as version 2, which shares its files."""
    heads = write_heads(tmp_path / "heads", range(3))
    one = publish(tmp_path / "datasets", heads[:2], ATTRIBUTES)
    two = publish(tmp_path / "datasets", heads, ATTRIBUTES)
    assert one.path != two.path
    assert verify(one.path) == verify(two.path) == []
    assert (HeadDataset.open(one.path).digest, len(HeadDataset.open(two.path))) == (one.digest, 3)
    assert (one.path / "rgb/c.1.0.0.0.0").samefile(two.path / "rgb/c.1.0.0.0.0")


def test_incompatible_heads_are_refused(tmp_path: Path) -> None:
    """Incompatible heads, duplicates and an empty list are refused with the head and the array."""
    heads = write_heads(tmp_path / "a", range(2))
    (other,) = write_heads(tmp_path / "b", range(7, 8), side=16)
    (recoded,) = (HeadEntry(id="procedural-000008", folder=tmp_path / "c"),)
    write_head(recoded.folder, make_head(8), PixelCodec(level=9))
    (turned,) = (HeadEntry(id="procedural-000009", folder=tmp_path / "d"),)
    write_head(turned.folder, dataclasses.replace(make_head(9), azimuth=np.arange(4, dtype=np.float32)))
    cases = {
        "at least one head": [],
        "each once": [heads[0], heads[0]],
        "head procedural-000007: rgb": [*heads, other],
        "head procedural-000008: rgb": [*heads, recoded],
        "head procedural-000009: azimuth": [*heads, turned],
        "holds the head procedural-000001": [heads[0], HeadEntry(id="procedural-000005", folder=heads[1].folder)],
        "nowhere": [HeadEntry(id="x", folder=tmp_path / "nowhere")],
    }
    for what, wrong in cases.items():
        with pytest.raises(DatasetError, match=what):
            publish(tmp_path / "datasets", wrong, ATTRIBUTES)
    (heads[1].folder / "mask.chunk").unlink()
    with pytest.raises(DatasetError, match="head procedural-000001: mask"):
        publish(tmp_path / "datasets", heads, ATTRIBUTES)
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [".tmp"]
    assert list((tmp_path / "datasets" / ".tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"ids": []}, "ids"),
        ({"split": {"test": 2}}, "split"),
        ({"split": {"test": 0.5, "validation": 0.5}}, "below 1"),
        ({"x": float("nan")}, "JSON"),
    ],
    ids=["ids", "fraction", "nothing to train", "not JSON"],
)
def test_invalid_attributes(tmp_path: Path, attributes: dict[str, Any], what: str) -> None:
    """Reserved attributes, impossible splits and values that are not JSON are refused."""
    with pytest.raises(ValueError, match=what):
        publish(tmp_path / "datasets", write_heads(tmp_path / "a", range(1)), attributes)


def test_write_head_checks_sizes(tmp_path: Path) -> None:
    """Arrays with inconsistent sizes are refused by name before anything is written."""
    head = make_head(0)
    for name, wrong in {"mask": head.mask[:2], "cam2world": head.cam2world[:1], "normals": head.normals[:, :4]}.items():
        with pytest.raises(DatasetError, match=f"head procedural-000000: {name}"):
            write_head(tmp_path / "x", _unchecked(head, **{name: wrong}))
    assert not (tmp_path / "x").exists()


def _unchecked(head: Any, **changes: Any) -> Any:
    """A copy of the record without the shape checks that are active in tests."""
    copy = object.__new__(type(head))
    copy.__dict__.update({**dataclasses.asdict(head), **changes})
    return copy


def test_latents_do_not_change_the_digest(tmp_path: Path) -> None:
    """Latents are added, replaced by those of another autoencoder and read by plain Zarr; the digest stays."""
    heads = write_heads(tmp_path / "heads", range(3))
    info = publish(tmp_path / "datasets", heads, ATTRIBUTES)
    ids = [head.id for head in heads]
    latents = write_all_latents(tmp_path / "latents", ids)
    digest = add_latents(info.path, latents[::-1], "autoencoder-1", {"scale": 0.2})
    assert add_latents(info.path, latents, "autoencoder-1", {"scale": 0.2}) == digest
    group = zarr.open(str(info.path), mode="r")
    np.testing.assert_array_equal(group["latents/rgb"][1], all_latents(1)[0])
    assert dict(group["latents"].attrs) == {
        "autoencoder": "autoencoder-1",
        "scale": 0.2,
        "schema_version": 1,
    }
    assert verify(info.path) == []
    assert publish(tmp_path / "datasets", heads, ATTRIBUTES).digest == info.digest
    assert add_latents(info.path, latents, "autoencoder-2") != digest
    assert HeadDataset.open(info.path).latents_attributes()["autoencoder"] == "autoencoder-2"
    assert verify(info.path) == []


def test_latents_of_other_heads_are_refused(tmp_path: Path) -> None:
    """Latents must belong to exactly the heads of the dataset."""
    info = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), ATTRIBUTES)
    latents = write_all_latents(tmp_path / "latents", ["procedural-000000", "procedural-000005"])
    for wrong in (latents, latents[:1], [latents[0], latents[0]]):
        with pytest.raises(DatasetError, match="expected latents of exactly its 2 heads"):
            add_latents(info.path, wrong, "autoencoder")
    assert not (info.path / "latents").exists()


def test_kill_9_while_publishing(tmp_path: Path) -> None:
    """After a kill at a random moment the dataset is complete or absent, and a rerun gives the same digest."""
    heads = write_heads(tmp_path / "heads", range(6))
    digest = publish(tmp_path / "undisturbed", heads, ATTRIBUTES).digest
    chance = random.Random(2)
    for turn in range(5):
        folder = tmp_path / f"datasets-{turn}"
        assert kill_at_random(lambda folder=folder: publish(folder, heads, ATTRIBUTES), chance, 0.4) in (
            0,
            -signal.SIGKILL,
        )
        found = list(folder.glob("*.zarr")) if folder.exists() else []
        assert all(verify(path) == [] for path in found)
        assert publish(folder, heads, ATTRIBUTES).digest == digest
        assert list((folder / ".tmp").iterdir()) == []
        assert sorted(path.name for path in folder.iterdir()) == [".tmp", f"{digest[:12]}.zarr"]


def test_full_disk_while_publishing(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    """A full disk is reported, and no partial dataset stays."""
    heads = write_heads(tmp_path / "heads", range(4), side=64)
    disk = small_disk("size=256k")
    with pytest.raises(StorageUnavailable, match="disk is full"):
        publish(disk, heads, ATTRIBUTES)
    assert [path.name for path in disk.iterdir()] == [".tmp"]
    assert list((disk / ".tmp").iterdir()) == []
    with pytest.raises(StorageUnavailable, match="disk is full"):
        write_head(disk / "head", make_head(0, views=16, side=128))


def test_given_checksums_are_used(tmp_path: Path) -> None:
    """Checksums that the caller has verified are copied to the manifest without reading the files."""
    (head,) = write_heads(tmp_path / "heads", range(1))
    entry = dataclasses.replace(head, checksums={"rgb.chunk": "0" * 64})
    info = publish(tmp_path / "datasets", [entry], ATTRIBUTES)
    assert [problem.array for problem in verify(info.path)] == ["rgb"]


def test_damaged_small_arrays_stop_publishing(tmp_path: Path) -> None:
    """Arrays that are written again are read completely, so damage in them raises an error."""
    heads = write_heads(tmp_path / "heads", range(2))
    flip_bit(heads[1].folder / "cam2world.chunk")
    with pytest.raises(DatasetError, match="head procedural-000001: cam2world: cannot be read"):
        publish(tmp_path / "datasets", heads, ATTRIBUTES)
    assert os.listdir(tmp_path / "datasets") == [".tmp"]
