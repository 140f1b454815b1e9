"""Committed files are read-only: datasets share them through hard links, and one write would damage all of these."""

import errno
import os
import stat
from pathlib import Path

import pytest

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadEntry, publish, write_head
from spinmeround.storage.files import link_or_copy
from tests.support.artifacts import key_of, put
from tests.support.heads import make_head


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


def test_committed_files_are_read_only_and_can_be_removed(store: ArtifactStore) -> None:
    """Neither payload nor manifest can be written; moving aside, remaking and removing work."""
    key = put(store, "mesh", 1, files={"a.bin": b"a", "b.bin": b"b"})
    assert modes(store.path("mesh", key)) == {0o444}
    moved = Path(store.set_aside("mesh", key))
    assert put(store, "mesh", 1, files={"a.bin": b"a", "b.bin": b"b"}) == key
    (stray,) = store.backend.strays()
    store.backend.remove_stray(stray)
    assert not moved.exists()
    store.backend.remove("mesh", key)
    assert not store.has("mesh", key)
    assert list((Path(store.root) / "tmp").iterdir()) == []


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_published_pixels_are_read_only(
    store: ArtifactStore, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards of a dataset have the permissions of the artifacts that they come from, also as copies."""
    key, head = key_of("write", 1), make_head(1)
    with store.commit("write", key, version=1, params={"number": 1}, inputs={}, weights="", subject=head.id) as out:
        write_head(out, head)
    if not links:
        monkeypatch.setattr("spinmeround.storage.files.os", _WithoutLinks())
    path = publish(tmp_path / "datasets", [HeadEntry(id=head.id, folder=store.path("write", key))], {}).path
    for name in ("rgb", "normals", "mask"):
        assert {each.stat().st_mode & 0o777 for each in (path / name).glob("c.*")} == {0o444}
    link_or_copy(path / "rgb/c.0.0.0.0.0", path / "mask/c.0.0.0.0")  # as a repair does


class _WithoutLinks:
    """The module `os` of a file system without hard links."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def link(self, *arguments: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")
