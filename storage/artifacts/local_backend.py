"""Artifacts in a local folder.

    <root>/<stage>/<key[:2]>/<key>/   the payload's files and manifest.json
    <root>/tmp, locks, corrupt, failures, runs, models

A payload is made in a temporary folder, gets its manifest last, is flushed to the disk and renamed into place. Its
files are read-only: datasets share them through hard links, so that one write would damage all of these. Locks are
flocks, which the kernel frees when their holder dies.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import Timeout

from spinmeround.storage.artifacts.backend import RESERVED_FOLDERS, Backend, Blobs, Entry, Stray
from spinmeround.storage.artifacts.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, manifest_bytes
from spinmeround.storage.errors import StoreError
from spinmeround.storage.files import (
    flocked,
    flush_tree,
    make_folder,
    make_read_only,
    owned_folder,
    rename_folder,
    sweep_owned_folders,
    write_atomic,
)
from spinmeround.storage.manifests import content_problem, extra_files, is_litter, size_problem

_CHEAP_S = 1.0
"""Artifacts made in less time are renamed without flushing the new name. A power cut may undo the last few renames;
remaking these artifacts costs less than all the flushes."""


class LocalBlobs(Blobs):
    """Files below the root, replaced atomically."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root, self._scratch = root, scratch

    def put(self, name: str, data: bytes) -> None:
        with owned_folder(self._scratch, "blob") as scratch:
            write_atomic(self._root / name, data, scratch=scratch)

    def get(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        files = (path for path in (self._root / folder).rglob("*") if path.is_file())
        return sorted(name for path in files if not is_litter(name := path.relative_to(self._root).as_posix()))


class LocalBackend(Backend):
    """Artifacts below the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root: Path = root
        if root.exists() and not root.is_dir():
            raise StoreError(f"artifact store {root}: expected a folder, found a file; choose another path")
        self.scratch = root / "tmp"
        self.blobs = LocalBlobs(root, self.scratch)

    def has(self, stage: str, key: str) -> bool:
        return (self._home(stage, key) / MANIFEST).is_file()

    def manifest(self, stage: str, key: str) -> bytes | None:
        path = self._home(stage, key) / MANIFEST
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{MANIFEST} is a link or not a file: expected a regular file")
            if found.st_size > MAX_MANIFEST_BYTES:
                raise ValueError(f"{MANIFEST}: expected at most {MAX_MANIFEST_BYTES} bytes, found {found.st_size}")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def folder(self, manifest: Manifest) -> Path:
        return self._home(manifest.stage, manifest.key) / manifest.payload

    def deliver(self, manifest: Manifest, data: bytes, *, full: bool) -> list[str]:
        folder, problem = self.folder(manifest), content_problem if full else size_problem
        found = [what for name, record in manifest.files.items() if (what := problem(folder, name, record))]
        if full:
            extra = extra_files(folder, manifest.files, without=[MANIFEST])
            found += [f"{name} is not in the manifest" for name in extra]
        return found

    def examine(self, manifest: Manifest) -> list[str]:
        return self.deliver(manifest, b"", full=True)

    def publish(self, out: Path, manifest: Manifest) -> None:
        final = self._home(manifest.stage, manifest.key)
        (out / MANIFEST).write_bytes(manifest_bytes(manifest))
        make_read_only(out)
        flush_tree(out)
        if final.exists() and not (final / MANIFEST).is_file():
            self.set_aside(manifest.stage, manifest.key)
        try:
            rename_folder(out, final, flush=manifest.duration_s >= _CHEAP_S)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def pinned(self, stage: str, key: str) -> AbstractContextManager[None]:
        return nullcontext()

    def set_aside(self, stage: str, key: str) -> str:
        moved = self.root / "corrupt" / f"{stage}-{key}-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            rename_folder(self._home(stage, key), moved)
        return str(moved)

    def remove(self, stage: str, key: str) -> None:
        self._discard(self._home(stage, key))

    @contextmanager
    def hold(self, name: str, timeout_s: float | None) -> Iterator[None]:
        lock = self.root / "locks" / f"{name}.lock"
        make_folder(lock.parent)
        with _held(lock, timeout_s):
            yield

    def sweep(self) -> list[Path]:
        sweep_owned_folders(self.root / "locks")
        return sweep_owned_folders(self.scratch)

    def entries(self, stage: str = "") -> Iterator[Entry]:
        for folder in self._homes(stage):
            with suppress(FileNotFoundError, NotADirectoryError):
                modified = (folder / MANIFEST).stat().st_mtime
                yield Entry(stage=folder.parts[-3], key=folder.name, modified=modified)

    def strays(self) -> Iterator[Stray]:
        moved = (self.root / "corrupt").glob("*")
        incomplete = (folder for folder in self._homes("") if not (folder / MANIFEST).is_file())
        for paths in (moved, incomplete):
            for path in paths:
                size = sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
                yield Stray(name=path.relative_to(self.root).as_posix(), size=size, modified=path.stat().st_mtime)

    def remove_stray(self, stray: Stray) -> None:
        self._discard(self.root / stray.name)

    def now(self) -> float:
        with owned_folder(self.scratch, "clock") as folder:
            return folder.stat().st_mtime

    def _home(self, stage: str, key: str) -> Path:
        return self.root / stage / key[:2] / key

    def _homes(self, stage: str) -> Iterator[Path]:
        for top in [self.root / stage] if stage else _folders(self.root, lambda name: name not in RESERVED_FOLDERS):
            for shelf in _folders(top, lambda name: len(name) == 2):
                yield from _folders(shelf, lambda name: len(name) == 64)

    def _discard(self, folder: Path) -> None:
        with owned_folder(self.scratch, "removed") as trash, suppress(FileNotFoundError):
            folder.rename(trash / "artifact")
            shutil.rmtree(trash / "artifact")


@contextmanager
def _held(lock: Path, timeout_s: float | None) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(flocked(lock, timeout_s=timeout_s))
        except Timeout as error:
            raise TimeoutError(f"{lock} is held by another process") from error
        yield


def _folders(parent: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (parent / name for name in names if wanted(name))
