"""Shards of a Zarr v3 array: one file with one chunk per view of a head, located by the shard's index.

The index has `(offset, length)` of each chunk as little-endian uint64, followed by its CRC-32C. It is at the end or
at the start of the file, and is checked whenever a file is opened.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinmeround.storage.codec import ChunkError, ChunkLayout, check_crc32c
from spinmeround.storage.dataset.files import Blob, Span

_ABSENT = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """Layout of the shards of an array, with chunks of one view each."""

    chunk: ChunkLayout
    chunks: int
    index_at_end: bool
    index_checked: bool

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "ShardLayout":
        """From an array's `zarr.json`, already checked against the schema. Raises ChunkError for other layouts."""
        codecs, shape = metadata["codecs"], metadata["shape"]
        if [codec.get("name") for codec in codecs] != ["sharding_indexed"]:
            raise ChunkError("expected one shard per head")
        sharding = codecs[0].get("configuration") or {}
        if sharding.get("chunk_shape") != [1, 1, *shape[2:]]:
            raise ChunkError(f"expected one chunk per view, found chunks of {sharding.get('chunk_shape')}")
        index = [codec.get("name") for codec in sharding.get("index_codecs", [])]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise ChunkError(f"expected an index of bytes and crc32c, found {index}")
        stored = ChunkLayout.from_codecs(
            sharding.get("codecs", []), [1, 1, *shape[2:]], np.dtype(metadata["data_type"])
        )
        if stored.order[:2] != (0, 1):
            raise ChunkError(f"expected a transposition within a view, found {stored.order}")
        chunk = replace(stored, shape=stored.shape[2:], order=tuple(axis - 2 for axis in stored.order[2:]))
        at_end = sharding.get("index_location", "end") == "end"
        return cls(chunk=chunk, chunks=shape[1], index_at_end=at_end, index_checked="crc32c" in index)

    @property
    def index_size(self) -> int:
        """Size of the index in bytes."""
        return 16 * self.chunks + 4 * self.index_checked

    def read(self, blob: Blob, views: Sequence[int], out: np.ndarray) -> None:
        """Decode the chunks of some views into `out` [len(views), *stored_shape]. Raises ChunkError for damage."""
        self.decode(blob, self.spans(blob, views), out)

    def decode(self, blob: Blob, spans: Sequence[Span], out: np.ndarray) -> None:
        """As `read`, for the chunks at `spans`."""
        if self.chunk.verbatim and all(length == self.chunk.size for _, length in spans):
            blob.read_into(spans, out)
            return
        for data, chunk in zip(blob.ranges(spans), out, strict=True):
            self.chunk.decode(data, chunk)

    def spans(self, blob: Blob, views: Sequence[int]) -> list[Span]:
        """Positions of the chunks of these views. Raises ChunkError for a damaged or impossible index."""
        index, size = memoryview(blob.index), blob.size
        if len(index) != self.index_size:
            raise ChunkError(f"expected an index of {self.index_size} bytes, found {len(index)}")
        if self.index_checked:
            try:
                index = check_crc32c(index)
            except ChunkError as error:
                raise ChunkError("the index is damaged or truncated") from error
        entries = struct.unpack(f"<{2 * self.chunks}Q", index)
        spans = list(zip(entries[::2], entries[1::2], strict=True))
        for view in views:
            offset, length = spans[view]
            if offset == length == _ABSENT:
                raise ChunkError(f"view {view} is missing")
            if offset + length > size or length > self.chunk.largest_stored:
                raise ChunkError(f"view {view}: expected a chunk within the file's {size} bytes, found {length} more")
        self._check_distinct(spans)
        return [spans[view] for view in views]

    def _check_distinct(self, spans: Sequence[Span]) -> None:
        """Raise ChunkError for chunks that overlap: a small file could stand for any number of decoded bytes."""
        end = self.index_size if not self.index_at_end else 0
        for offset, length in sorted(spans):
            if offset < end and offset != _ABSENT:
                raise ChunkError(f"its index has chunks that overlap, at byte {offset}")
            end = offset + length
