"""Reads the files of a dataset on a disk: small files completely, shards by byte ranges.

Links to files and folders are refused, so that a dataset reads nothing outside its folder. Shards are read with
`pread`, not memory-mapped: truncation during a read raises an error instead of killing the process, and no file stays
open.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from spinmeround.storage.codec import ChunkError
from spinmeround.storage.dataset.schema import MAX_METADATA_BYTES
from spinmeround.storage.errors import DatasetError

Span = tuple[int, int]
"""Offset and length, in bytes."""


@runtime_checkable
class Blob(Protocol):
    """An open shard: its size and index in bytes, and reads of byte ranges."""

    @property
    def size(self) -> int: ...
    @property
    def index(self) -> bytes: ...
    def expect(self, spans: Sequence[Span]) -> None:
        """Announce ranges that will be read soon, so that a disk can fetch them ahead and in parallel."""

    def ranges(self, spans: Sequence[Span]) -> Iterable[bytes | memoryview]:
        """The bytes of each range."""

    def read_into(self, spans: Sequence[Span], out: np.ndarray) -> None:
        """Copy one range into each contiguous `out[i]` of the same size. Raises ChunkError for a short read."""


@runtime_checkable
class DatasetFiles(Protocol):
    """Source of a dataset's files. Names are POSIX paths below its root."""

    @property
    def root(self) -> Path | str: ...

    def has(self, name: str) -> bool: ...

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes. Raises ChunkError if it is missing, a link or larger."""

    def shard(self, name: str, index_size: int, *, at_end: bool) -> Any:
        """A context with the open `Blob`. Raises ChunkError if the file is missing, a link or too short."""


def read_file(files: DatasetFiles, name: str) -> bytes:
    """The content of a JSON file. Raises DatasetError if it is missing, a link or larger than `MAX_METADATA_BYTES`."""
    try:
        return files.read(name, MAX_METADATA_BYTES)
    except ChunkError as error:
        raise DatasetError(f"expected the metadata of a Zarr v3 dataset: {error}") from error


def _will_need(descriptor: int, offset: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)


@dataclass(frozen=True)
class _OpenFile:
    descriptor: int
    size: int
    index: bytes

    def expect(self, spans: Sequence[Span]) -> None:
        for offset, length in spans:
            _will_need(self.descriptor, offset, length)

    def ranges(self, spans: Sequence[Span]) -> Iterator[bytes]:
        return (os.pread(self.descriptor, length, offset) for offset, length in spans)

    def read_into(self, spans: Sequence[Span], out: np.ndarray) -> None:
        for (offset, length), room in zip(spans, out, strict=True):
            if os.preadv(self.descriptor, [room.data], offset) != length:
                raise ChunkError(f"expected {length} bytes at {offset}, found fewer")


@dataclass(frozen=True)
class LocalFiles:
    """A dataset's folder on this machine."""

    root: Path
    _plain: set[str] = field(default_factory=set, repr=False, compare=False)
    """Folders known not to be links."""

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def read(self, name: str, limit: int) -> bytes:
        with self.shard(name, 0, at_end=False) as file:
            if file.size > limit:
                raise ChunkError(f"{self.root / name}: expected at most {limit} bytes, found {file.size}")
            return os.pread(file.descriptor, file.size, 0)

    @contextmanager
    def shard(self, name: str, index_size: int, *, at_end: bool) -> Iterator[_OpenFile]:
        descriptor = self._open(name)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size < index_size:
                raise ChunkError(f"{self.root / name}: expected a shard, found {found.st_size} bytes")
            start = found.st_size - index_size if at_end else 0
            yield _OpenFile(descriptor, found.st_size, os.pread(descriptor, index_size, start))
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        path, folder = f"{self.root}/{name}", name.rpartition("/")[0]
        while folder and folder not in self._plain:
            if os.path.islink(f"{self.root}/{folder}"):
                raise ChunkError(f"{self.root}/{folder} is a link")
            self._plain.add(folder)
            folder = folder.rpartition("/")[0]
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            what = "is a link" if os.path.islink(path) else "is missing" if not os.path.exists(path) else error.strerror
            raise ChunkError(f"{path} {what}") from error
