"""Atomic files and owned folders."""

import ctypes
import errno
import os
import random
import signal
from pathlib import Path

import pytest

from spinmeround.storage import files
from spinmeround.storage.errors import StorageUnavailable, environment_errors
from spinmeround.storage.files import (
    flocked,
    flush_tree,
    link_or_copy,
    make_folder,
    owned_folder,
    rename_folder,
    sweep_owned_folders,
    write_atomic,
)
from tests.support.processes import kill_at_random


def test_write_atomic_replaces_whole(tmp_path: Path) -> None:
    """A writer killed at any moment leaves the old content or the new."""
    path, chance = tmp_path / "x", random.Random(1)
    write_atomic(path, b"a" * 300_000)
    for _ in range(30):

        def write() -> None:
            for letter in b"bcdefgh" * 1000:
                write_atomic(path, bytes([letter]) * 300_000)

        assert kill_at_random(write, chance, within_s=0.04) == -signal.SIGKILL
        data = path.read_bytes()
        assert len(data) == 300_000
        assert len(set(data)) == 1


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, below: str) -> None:
    """The error of a folder at or below a file names the file, and is one that a user can act on."""
    (tmp_path / "file").write_bytes(b"a")
    named = pytest.raises(StorageUnavailable, match="file: a file is where a folder is expected: move the file away")
    with named, environment_errors(tmp_path):
        make_folder(tmp_path / "file" / below)
    (tmp_path / "folder").mkdir()
    named = pytest.raises(StorageUnavailable, match="folder: a folder is where a file is expected")
    with named, environment_errors(tmp_path):
        write_atomic(tmp_path / "folder", b"a")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_folder_that_nobody_can_make_is_named() -> None:
    """The kernel calls it missing, which would blame a parent that exists."""
    named = pytest.raises(StorageUnavailable, match="cannot use /proc/nope: the file system is read-only")
    with named, environment_errors(Path("/proc")):
        make_folder(Path("/proc/nope/a"))


@pytest.mark.parametrize("clean", ["write", "lock", "link"])
def test_clean_up_hides_no_error(clean: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that fails, removing what is temporary fails, too: the first error arrives."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the second error")

    def first(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "the first error")

    (tmp_path / "source").write_bytes(b"a")
    monkeypatch.setattr(Path, "unlink", fail)
    monkeypatch.setattr(Path, "replace", first)

    def locked() -> None:
        with flocked(tmp_path / "x.lock"):
            first()

    act = {
        "write": lambda: write_atomic(tmp_path / "x", b"a"),
        "lock": locked,
        "link": lambda: link_or_copy(tmp_path / "source", tmp_path / "x"),
    }
    with pytest.raises(OSError, match="the first error"):
        act[clean]()


def test_write_atomic_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed write leaves the old file and no temporary file."""
    write_atomic(tmp_path / "x", b"old")

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_owned_folder_is_removed_or_renamed(tmp_path: Path) -> None:
    """An owned folder is removed when the block ends, unless it was renamed."""
    with owned_folder(tmp_path / "tmp", "kept") as folder:
        (folder / "x").touch()
        rename_folder(folder, tmp_path / "final" / "deep")
    with owned_folder(tmp_path / "tmp", "dropped") as folder:
        (folder / "y").touch()
    assert [path.name for path in (tmp_path / "final" / "deep").iterdir()] == ["x"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_sweep_keeps_what_is_not_owned(tmp_path: Path) -> None:
    """A sweep keeps folders without a lock file and removes locks without a folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "alone.lock").touch()
    with owned_folder(tmp_path, "busy") as busy:
        assert sweep_owned_folders(tmp_path) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["mine", "file", busy.name, f"{busy.name}.lock"]
        )
    assert sweep_owned_folders(tmp_path / "nowhere") == []


def test_corrupted_lock_file_still_locks(tmp_path: Path) -> None:
    """The content of a lock file is irrelevant, and stays unchanged while the lock is held."""
    (tmp_path / "x.lock").write_bytes(b"\x00garbage" * 100)
    with flocked(tmp_path / "x.lock"):
        assert (tmp_path / "x.lock").exists()
    assert not (tmp_path / "x.lock").exists()


def test_every_file_of_a_tree_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without syncfs, each file and folder is flushed, a folder after its contents."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"x")
    (tmp_path / "y").write_bytes(b"y")
    flush_tree(tmp_path)
    flushed: list[str] = []
    monkeypatch.setattr(files, "_syncfs", lambda: None)
    monkeypatch.setattr(files, "fsync", lambda path: flushed.append(path.relative_to(tmp_path).as_posix()))
    flush_tree(tmp_path)
    assert flushed == ["a/b/x", "a/b", "a", "y", "."]


def test_a_failed_flush_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing syncfs raises an OSError that names the folder."""

    def refuse(descriptor: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(files, "_syncfs", lambda: refuse)
    with pytest.raises(OSError, match="Input/output error") as caught:
        flush_tree(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path))
