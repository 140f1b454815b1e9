"""What an artifact store needs of the place where it keeps its bytes: a local folder or an object store.

Both keep the same names below the store's root, and the same promise: the manifest comes last and at once,
so an artifact is whole or absent. Stages get local folders from either and fill a local folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.artifacts.manifest import Manifest
from spinmeround.storage.manifests import FileRecord

OWN_FOLDERS = ("tmp", "locks", "corrupt", "failures", "runs", "datasets")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An artifact's manifest in a listing; `modified` is in seconds, by the store's own clock."""

    stage: str
    key: str
    modified: float


@dataclass(frozen=True, kw_only=True)
class Stray:
    """Something in the store that is no artifact, nor part of one."""

    name: str
    size: int
    modified: float


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of an input artifact that a payload shares by a hard link."""

    stage: str
    key: str
    name: str
    record: FileRecord


class Blobs(ABC):
    """Small files by name, each replaced as a whole."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """The bytes, or None where there are none."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the blob if it is there."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """All names below a folder, sorted."""


class Backend(ABC):
    """Where artifacts are; any number of threads and processes may share one."""

    root: Path | str
    scratch: Path
    """Local folder for temp folders."""
    blobs: Blobs

    @abstractmethod
    def has(self, stage: str, key: str) -> bool:
        """Whether the manifest is there."""

    @abstractmethod
    def manifest(self, stage: str, key: str) -> bytes | None:
        """Bytes of the manifest; None where it is absent. Raises ValueError for one that is no plain file."""

    @abstractmethod
    def folder(self, manifest: Manifest) -> Path:
        """Local folder where the payload is or will be."""

    @abstractmethod
    def deliver(self, manifest: Manifest, data: bytes, *, full: bool) -> list[str]:
        """Have the payload in `folder`; returns what is wrong with it. With `full` every byte is checked."""

    @abstractmethod
    def examine(self, manifest: Manifest) -> list[str]:
        """What is wrong with the payload as it is stored; reads every byte, keeps none."""

    @abstractmethod
    def publish(self, out: Path, manifest: Manifest, linked: Mapping[str, Source]) -> None:
        """Make the folder `out` the artifact, unless it is there already. `linked` files are those of inputs."""

    @abstractmethod
    def pinned(self, stage: str, key: str) -> AbstractContextManager[None]:
        """The local folder stays for the length of the block."""

    @abstractmethod
    def set_aside(self, stage: str, key: str) -> str:
        """Move a damaged artifact to `corrupt`; returns where it is now."""

    @abstractmethod
    def remove(self, stage: str, key: str) -> None:
        """Remove an artifact: first it is absent, then its bytes go."""

    @abstractmethod
    def hold(self, name: str, timeout_s: float | None) -> AbstractContextManager[None]:
        """Hold a lock. Raises TimeoutError after `timeout_s`."""

    @abstractmethod
    def sweep(self) -> list[Path]:
        """Remove what killed processes left on this machine; returns the folders."""

    @abstractmethod
    def entries(self, stage: str = "") -> Iterator[Entry]:
        """All artifacts, or those of one stage."""

    @abstractmethod
    def strays(self) -> Iterator[Stray]:
        """What was moved aside, and payloads that never got a manifest."""

    @abstractmethod
    def remove_stray(self, stray: Stray) -> None: ...

    @abstractmethod
    def now(self) -> float:
        """The time by the store's own clock, in seconds."""
