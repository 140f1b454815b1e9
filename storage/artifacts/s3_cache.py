"""Local copies of artifacts of an object store, which stages read; bounded in size.

    <root>/<stage>/<key[:2]>/<key>/   payload and manifest.json, as in a local store
    <root>/tmp, locks, pins

A copy is checked against its manifest's SHA-256 when it is fetched, and again when a process first uses it, so
nothing here needs to be flushed to the disk. When the copies exceed the limit, the least recently used are evicted,
except those that are pinned or were used in the last ten minutes. The folder may be deleted while nothing runs.
"""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.artifacts.manifest import MANIFEST, Manifest
from spinmeround.storage.files import flocked, make_folder, owned_folder, sweep_owned_folders
from spinmeround.storage.manifests import content_problem, extra_files, size_problem

RECENT_S = 600.0
_TRIM_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy in the cache: its folder, size in bytes and time of last use in seconds."""

    folder: Path
    size: int
    used: float


class ArtifactCache:
    """Copies below `root`, about `limit_bytes` at most; shared by all processes of a machine."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root, self.scratch, self._limit = root, root / "tmp", limit_bytes
        self._checked: set[tuple[str, str, str]] = set()
        self._trimming = threading.Lock()
        self._trimmed = 0.0

    def folder(self, stage: str, key: str) -> Path:
        """Folder of an artifact's copy, which may not exist yet."""
        return self.root / stage / key[:2] / key

    def ensure(
        self, manifest: Manifest, data: bytes, fetch: Callable[[Path], list[str]], *, full: bool = False
    ) -> list[str]:
        """Ensure that the copy of this artifact exists; returns the problems of the fetched payload.

        `data` are the manifest's bytes; `fetch` fills a folder with the payload and returns its problems. `full`
        checks every byte of an existing copy again.
        """
        folder = self.folder(manifest.stage, manifest.key)
        with self._locked(manifest.stage, manifest.key):
            if not self._holds(folder, manifest, data, full=full):
                self._drop(folder)
                with owned_folder(self.scratch, f"{manifest.stage}-{manifest.key[:12]}") as out:
                    if problems := fetch(out):
                        return problems
                    self._settle(out, folder, manifest, data)
            with suppress(FileNotFoundError):
                os.utime(folder / MANIFEST)
        self.trim()
        return []

    def adopt(self, out: Path, manifest: Manifest, data: bytes) -> None:
        """Take over a payload that was made on this machine as the copy."""
        folder = self.folder(manifest.stage, manifest.key)
        with self._locked(manifest.stage, manifest.key):
            self._drop(folder)
            self._settle(out, folder, manifest, data)
        self.trim()

    def drop(self, stage: str, key: str) -> None:
        """Remove a copy."""
        with self._locked(stage, key):
            self._drop(self.folder(stage, key))

    @contextmanager
    def pinned(self, stage: str, key: str) -> Iterator[None]:
        """Keep the copy from eviction for the duration of the block."""
        pin = self.root / "pins" / f"{stage}-{key}"
        make_folder(pin.parent, flush=False)
        while True:
            with pin.open("a", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                if os.fstat(file.fileno()).st_nlink:  # not removed between opening and locking
                    yield
                    return

    def sweep(self) -> list[Path]:
        """Remove the temporary folders of killed processes, and evict copies above the limit."""
        sweep_owned_folders(self.root / "locks")
        self.trim(at_once=True)
        return sweep_owned_folders(self.scratch)

    def trim(self, *, at_once: bool = False) -> None:
        """Evict the least recently used copies above the limit; at most once a minute, unless `at_once`."""
        now = time.monotonic()
        with self._trimming:
            if now - self._trimmed < _TRIM_EVERY_S and self._trimmed and not at_once:
                return
            self._trimmed = now
            copies = sorted(self._copies(), key=lambda copy: copy.used)
            excess = sum(copy.size for copy in copies) - self._limit
            for copy in copies:
                if excess <= 0 or copy.used > time.time() - RECENT_S:
                    return
                if self._evict(copy.folder):
                    excess -= copy.size

    def _copies(self) -> Iterator[Copy]:
        for manifest in self.root.glob(f"*/??/*/{MANIFEST}"):
            with suppress(FileNotFoundError):
                files = [path.stat().st_size for path in manifest.parent.rglob("*") if path.is_file()]
                yield Copy(folder=manifest.parent, size=sum(files), used=manifest.stat().st_mtime)

    def _evict(self, folder: Path) -> bool:
        pin = self.root / "pins" / f"{folder.parts[-3]}-{folder.name}"
        make_folder(pin.parent, flush=False)
        with pin.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            pin.unlink(missing_ok=True)
            self._drop(folder)
        return True

    def _holds(self, folder: Path, manifest: Manifest, data: bytes, *, full: bool) -> bool:
        try:
            if (folder / MANIFEST).read_bytes() != data:
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        known = not full and _name(manifest) in self._checked
        problem = size_problem if known else content_problem
        try:
            intact = not any(problem(folder, name, record) for name, record in manifest.files.items())
            intact = intact and (known or not extra_files(folder, manifest.files, without=[MANIFEST]))
        except ValueError:
            return False
        if intact:
            self._checked.add(_name(manifest))
        return intact

    def _settle(self, out: Path, folder: Path, manifest: Manifest, data: bytes) -> None:
        (out / MANIFEST).write_bytes(data)
        make_folder(folder.parent, flush=False)
        out.rename(folder)
        self._checked.add(_name(manifest))

    def _drop(self, folder: Path) -> None:
        if folder.exists():
            with owned_folder(self.scratch, "dropped") as trash, suppress(FileNotFoundError):
                folder.rename(trash / "artifact")
                shutil.rmtree(trash / "artifact")

    @contextmanager
    def _locked(self, stage: str, key: str) -> Iterator[None]:
        lock = self.root / "locks" / f"{stage}-{key}.lock"
        make_folder(lock.parent, flush=False)
        with flocked(lock):
            yield


def _name(manifest: Manifest) -> tuple[str, str, str]:
    return manifest.stage, manifest.key, manifest.payload
