"""Reads a published dataset in an object store, `s3://bucket/name.zarr` or another address that obstore supports.

Published files never change, so the index of a shard is fetched once, with the shard's size, and cached. Chunks are
fetched as byte ranges, many per call. obstore retries requests when the server is slow or fails temporarily.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from spinmeround.storage.codec import ChunkError
from spinmeround.storage.dataset.files import Span
from spinmeround.storage.errors import StorageUnavailable, one_line
from spinmeround.storage.s3 import s3_endpoint

MAX_INDICES = 20_000
"""Number of cached indices, 2 kB each at 125 views."""


@dataclass(frozen=True)
class _RemoteShard:
    store: ObjectStore
    name: str
    size: int
    index: bytes

    def expect(self, spans: Sequence[Span]) -> None:
        """Does nothing: `ranges` fetches all of them in one request."""

    def ranges(self, spans: Sequence[Span]) -> Sequence[memoryview]:
        if not spans:
            return []
        starts, lengths = zip(*spans, strict=True)
        found = obstore.get_ranges(self.store, self.name, starts=starts, lengths=lengths)
        return [memoryview(data) for data in found]

    def read_into(self, spans: Sequence[Span], out: np.ndarray) -> None:
        for data, room in zip(self.ranges(spans), out, strict=True):
            room.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)


@dataclass
class RemoteFiles:
    """Files of a dataset below an address. `options` are passed to obstore: credentials, endpoint, region.

    Default: from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
    """

    root: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold a secret key
    _indices: OrderedDict[str, tuple[int, bytes]] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        self.root = self.root.rstrip("/")
        self._store: ObjectStore = from_url(self.root, **{**_connection(self.root), **self.options})

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.root, self.options, self._indices = state["root"], state["options"], OrderedDict()
        self.__post_init__()

    def has(self, name: str) -> bool:
        try:
            with self._failures(name):
                obstore.head(self._store, name)
        except ChunkError:
            return False
        return True

    def read(self, name: str, limit: int) -> bytes:
        with self._failures(name):
            found = obstore.get(self._store, name)
            if (size := found.meta["size"]) > limit:
                raise ChunkError(f"{self.root}/{name}: expected at most {limit} bytes, found {size}")
            return bytes(found.bytes())

    @contextmanager
    def shard(self, name: str, index_size: int, *, at_end: bool) -> Iterator[_RemoteShard]:
        with self._failures(name):
            if (held := self._indices.get(name)) is None:
                held = self._indices[name] = self._fetch_index(name, index_size, at_end)
                while len(self._indices) > MAX_INDICES:
                    self._indices.popitem(last=False)
            yield _RemoteShard(self._store, name, *held)

    def _fetch_index(self, name: str, size: int, at_end: bool) -> tuple[int, bytes]:
        part: Any = {"suffix": size} if at_end else (0, size)
        found = obstore.get(self._store, name, options={"range": part})
        return found.meta["size"], bytes(found.bytes())

    @contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        """Raise ChunkError for a missing object, StorageUnavailable for a failure that outlasts the retries."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            raise ChunkError(f"{self.root}/{name} is missing") from error
        except (BaseError, OSError) as error:
            raise StorageUnavailable(
                f"{self.root}/{name}: the object store failed; check address, credentials and server: {one_line(error)}"
            ) from error


def _connection(url: str) -> dict[str, Any]:
    """Retries, and plain HTTP if the endpoint in the environment is an http:// URL."""
    options: dict[str, Any] = {"retry_config": {"max_retries": 8, "retry_timeout": timedelta(seconds=120)}}
    if url.startswith("s3") and (endpoint := s3_endpoint()):
        options |= {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
    return options
