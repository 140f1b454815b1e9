"""The interface between an artifact store and where its bytes are stored: a local folder or an object store.

Both backends use the same layout below the store's root and give the same guarantee: the manifest is written last and
atomically, so an artifact is complete or absent. Stages read from local folders and fill a local folder with either.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.artifacts.manifest import Manifest
from spinmeround.storage.manifests import FileRecord

RESERVED_FOLDERS = ("tmp", "locks", "corrupt", "failures", "runs", "models", "datasets")
GC_LOCK = "gc"
"""The lock of garbage collection, which whoever registers what it must keep holds, too."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An artifact in a listing; `modified` is the time of its manifest in seconds, by the store's clock."""

    stage: str
    key: str
    modified: float


@dataclass(frozen=True, kw_only=True)
class Stray:
    """Something in the store that belongs to no artifact; `name` is relative to the root, `size` in bytes."""

    name: str
    size: int
    modified: float


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of an artifact that something else holds too, so that a server can copy it."""

    stage: str
    key: str
    name: str
    record: FileRecord


class Blobs(ABC):
    """Small files by name, each replaced atomically."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """The bytes, or None if the blob does not exist."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the blob if it exists."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """All names below a folder, sorted."""


class Backend(ABC):
    """Storage of artifacts; any number of threads and processes may share one."""

    root: Path | str
    scratch: Path
    """Local folder for temporary folders."""
    blobs: Blobs

    @abstractmethod
    def has(self, stage: str, key: str) -> bool:
        """Whether the manifest exists."""

    @abstractmethod
    def manifest(self, stage: str, key: str) -> bytes | None:
        """Bytes of the manifest, None if it is absent. Raises ValueError if it is not a regular file."""

    @abstractmethod
    def folder(self, manifest: Manifest) -> Path:
        """Local folder of the payload, which may not exist yet."""

    @abstractmethod
    def deliver(self, manifest: Manifest, data: bytes, *, full: bool) -> list[str]:
        """Provide the payload in `folder`; returns the problems found. `full` checks every byte."""

    @abstractmethod
    def examine(self, manifest: Manifest) -> list[str]:
        """Problems of the stored payload; reads every byte, keeps none."""

    @abstractmethod
    def publish(self, out: Path, manifest: Manifest) -> None:
        """Make the folder `out` the artifact unless it already exists."""

    @abstractmethod
    def pinned(self, stage: str, key: str) -> AbstractContextManager[None]:
        """Keep the local folder for the duration of the block."""

    @abstractmethod
    def set_aside(self, stage: str, key: str) -> str:
        """Move a damaged artifact to `corrupt`; returns its new place."""

    @abstractmethod
    def remove(self, stage: str, key: str) -> None:
        """Remove an artifact: first its manifest, then its payload."""

    @abstractmethod
    def hold(self, name: str, timeout_s: float | None) -> AbstractContextManager[None]:
        """Hold a lock. Raises TimeoutError after `timeout_s`."""

    @abstractmethod
    def sweep(self) -> list[Path]:
        """Remove temporary folders of killed processes on this machine; returns them."""

    @abstractmethod
    def entries(self, stage: str = "") -> Iterator[Entry]:
        """All artifacts, or those of one stage."""

    @abstractmethod
    def strays(self) -> Iterator[Stray]:
        """What was moved to `corrupt`, and payloads without a manifest."""

    @abstractmethod
    def remove_stray(self, stray: Stray) -> None: ...

    @abstractmethod
    def now(self) -> float:
        """The time by the store's clock, in seconds."""
