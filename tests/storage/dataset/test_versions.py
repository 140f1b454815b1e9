"""Versions of a growing dataset: old ones stay unchanged, the order is kept, differences are reported."""

import dataclasses
import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

from spinmeround.storage.dataset import (
    HeadDataset,
    HeadEntry,
    add_latents,
    diff_datasets,
    find_version,
    list_versions,
    publish,
    record_latents,
    record_version,
    stated_latents,
    verify,
    write_head,
)
from spinmeround.storage.errors import DatasetError
from tests.support.heads import make_head, write_all_latents, write_heads

pytestmark = pytest.mark.fast


def grown(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A folder with v1 of two heads and v2 of three."""
    heads, folder = write_heads(tmp_path / "heads", range(3)), tmp_path / "datasets"
    paths = []
    for count in (2, 3):
        info = publish(folder, heads[:count], {"counts": {"requested": count}})
        record_version(folder, info.digest, count)
        paths.append(info.path)
    return folder, paths[0], paths[1]


def test_latents_that_were_swapped_with_their_manifest_are_found(tmp_path: Path) -> None:
    """The index states the digest of the latents; without a statement, any consistent latents are intact."""
    folder, path, other = grown(tmp_path)
    ids, digest = HeadDataset.open(path).ids, HeadDataset.open(path).digest
    entries = write_all_latents(tmp_path / "latents", list(ids))
    latents = add_latents(path, entries, "autoencoder")
    assert verify(path) == []
    record_latents(folder, digest, latents)
    record_latents(folder, "0" * 64, latents)  # of a dataset that the index does not know
    assert verify(path) == []
    assert [stated_latents(folder, each.digest) for each in list_versions(folder)] == [latents, None]
    swapped = [HeadEntry(id=a.id, folder=b.folder) for a, b in zip(entries, reversed(entries), strict=True)]
    found = add_latents(path, swapped, "autoencoder")
    (problem,) = verify(path)
    assert problem.what.startswith(f"expected the latents {latents} that versions.json states, found {found}")
    shutil.rmtree(path / "latents")
    assert verify(path) == verify(other) == []
    (path / "latents").mkdir()
    (problem,) = verify(path)
    assert "found none" in problem.what


def test_growth_changes_no_shard(tmp_path: Path) -> None:
    """v2 links the files of v1 and those of the new head; v1 keeps its digest and verifies."""
    heads, folder = write_heads(tmp_path / "heads", range(3)), tmp_path / "datasets"
    one = publish(folder, heads[:2], {})
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in one.path.rglob("*") if path.is_file()}
    two = publish(folder, heads, {})
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before
    assert (two.path / "rgb/c.1.0.0.0.0").samefile(one.path / "rgb/c.1.0.0.0.0")
    assert HeadDataset.open(one.path).digest == one.digest
    assert verify(one.path) == verify(two.path) == []


def test_versions_are_numbered_once(tmp_path: Path) -> None:
    """Each digest has one number and the previous version as its parent; publishing again changes nothing."""
    folder, first, second = grown(tmp_path)
    one, two = list_versions(folder)
    assert (one.number, one.parent, one.heads, two.number, two.parent, two.heads) == (1, None, 2, 2, one.digest, 3)
    assert record_version(folder, one.digest, 2) == one
    assert list_versions(folder) == (one, two)
    assert find_version(folder, "v1") == first
    assert find_version(folder, two.digest[:8]) == second
    with pytest.raises(DatasetError, match=r"v3.*v1 \("):
        find_version(folder, "v3")


def _record(folder: str, digit: int) -> None:
    record_version(Path(folder), f"{digit:064x}", 1)


def test_concurrent_publishing_loses_no_version(tmp_path: Path) -> None:
    """Eight processes that each add a version form one chain."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_record, args=(str(tmp_path), digit)) for digit in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = list_versions(tmp_path)
    assert {version.digest for version in found} == {f"{digit:064x}" for digit in range(8)}
    assert [version.parent for version in found] == [None, *(version.digest for version in found[:-1])]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "expected the index of versions"),
        (json.dumps({"schema_version": 2}), "use a newer version"),
        (json.dumps({"versions": [{"number": 1, "digest": "../x", "created": "2026-01-01", "heads": 1}]}), "digest"),
    ],
)
def test_broken_indices_are_refused(tmp_path: Path, text: str, what: str) -> None:
    """An invalid or newer index is reported, not interpreted."""
    (tmp_path / "versions.json").write_text(text)
    with pytest.raises(DatasetError, match=what):
        list_versions(tmp_path)


def test_diff_of_growth(tmp_path: Path) -> None:
    """From v1 to v2 a head is added and a count changes; the reverse removes it; a version equals itself."""
    _, first, second = grown(tmp_path)
    found = diff_datasets(first, second)
    assert (found.added, found.removed, found.changed, found.shared) == (("procedural-000002",), (), {}, ())
    assert found.attributes == {"counts.requested": (2, 3)}
    assert diff_datasets(second, first).removed == ("procedural-000002",)
    assert diff_datasets(first, first).empty


def test_diff_names_changed_arrays(tmp_path: Path) -> None:
    """Another pixel and another camera of one head: only those arrays of that head are listed."""
    heads = write_heads(tmp_path / "heads", range(3))
    head = make_head(2)
    rgb, cam2world = head.rgb.copy(), head.cam2world.copy()
    rgb[0, 4, 4] ^= 1
    cam2world[1, 0, 3] = 0.5
    write_head(tmp_path / "other", dataclasses.replace(head, rgb=rgb, cam2world=cam2world))
    before = publish(tmp_path / "datasets", heads[1:], {})
    after = publish(tmp_path / "datasets", [*heads[:2], HeadEntry(id=head.id, folder=tmp_path / "other")], {})
    found = diff_datasets(before.path, after.path)
    assert found.changed == {"procedural-000002": ("rgb", "cam2world")}
    assert found.added == ("procedural-000000",)


def test_diff_of_other_grids(tmp_path: Path) -> None:
    """For datasets of different sizes, the arrays that depend on them are listed as shared changes."""
    small = publish(tmp_path / "datasets", write_heads(tmp_path / "small", range(2)), {})
    large = publish(tmp_path / "datasets", write_heads(tmp_path / "large", range(2), side=12), {})
    found = diff_datasets(small.path, large.path)
    assert set(found.shared) == {"rgb", "normals", "mask"}
    assert not np.intersect1d(sum(found.changed.values(), ()), ["rgb", "normals", "mask"]).size
