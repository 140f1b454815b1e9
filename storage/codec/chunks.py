"""Decodes the stored bytes of a chunk into memory that the caller owns.

Supports the codecs of the schema: `transpose`, `numcodecs.delta` (of bytes), `bytes`, zstd or Blosc's zstd, crc32c.
Stored bytes are not trusted: the decoded size that a frame states must equal the size that the array's metadata implies
before anything is decoded, and checksums are verified.
"""

import math
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import google_crc32c
import numpy as np
from jaxtyping import UInt8
from numcodecs import blosc
from numcodecs.zstd import Zstd

from spinmeround.storage.codec.axis_order import reordered

_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_MOST = 2**15
_ZSTD = Zstd()
_BLOSC_HEADER = struct.Struct("<BBBBIII")  # format, version of zstd, flags, type size, bytes, block size, stored bytes
_BLOSC_FORMAT = 2
_BLOSC_ZSTD = 4 << 5
_BLOSC_SPLIT, _BLOSC_COPIED = 1 << 4, 1 << 1
_CODECS = ("transpose", "numcodecs.delta", "bytes", "zstd", "blosc", "crc32c")

Compressor = Literal["zstd", "blosc"]

blosc.use_threads = False  # its pool of threads does not survive a fork, and holds the GIL


class ChunkError(ValueError):
    """Stored bytes that contradict the array's metadata."""


def check_crc32c(data: memoryview) -> memoryview:
    """The data without the last four bytes, which must be the little-endian CRC-32C of the rest; raises ChunkError."""
    body = data[:-4]
    if len(data) < 4 or google_crc32c.value(bytes(body)) != int.from_bytes(data[-4:], "little"):
        raise ChunkError("its checksum does not match")
    return body


@dataclass(frozen=True, kw_only=True)
class ChunkLayout:
    """Encoding of one chunk. `stored_shape` is `shape` with its axes in the order `order`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    delta: bool
    compressor: Compressor | None
    checksum: bool

    @classmethod
    def from_codecs(
        cls, codecs: Sequence[Mapping[str, Any]], shape: Sequence[int], dtype: np.dtype[Any]
    ) -> "ChunkLayout":
        """From the codecs of a `zarr.json`. Raises ChunkError for unsupported codecs."""
        configurations = {str(codec.get("name")): codec.get("configuration") or {} for codec in codecs}
        names = list(configurations)
        both = {"zstd", "blosc"} <= set(names)
        ordered = names == [name for name in _CODECS if name in names]
        if len(names) != len(codecs) or "bytes" not in names or not ordered or both:
            raise ChunkError(
                f"expected codecs out of {', '.join(_CODECS)} in this order, with bytes and at most one of zstd and "
                f"blosc, found {names}"
            )
        if configurations["bytes"].get("endian", "little") != "little":
            raise ChunkError("expected little-endian bytes")
        order = configurations.get("transpose", {"order": list(range(len(shape)))}).get("order")
        if not isinstance(order, list) or sorted(order) != list(range(len(shape))):
            raise ChunkError(f"expected a permutation of {len(shape)} axes, found {order}")
        delta = "numcodecs.delta" in names
        if delta and (configurations["numcodecs.delta"] != {"dtype": "|u1"} or dtype != np.uint8):
            raise ChunkError(f"expected the delta of bytes, found {configurations['numcodecs.delta']}")
        return cls(
            shape=tuple(shape),
            dtype=dtype.newbyteorder("<"),
            order=tuple(order),
            delta=delta,
            compressor="zstd" if "zstd" in names else "blosc" if "blosc" in names else None,
            checksum="crc32c" in names,
        )

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def verbatim(self) -> bool:
        """Whether the stored bytes are the values themselves."""
        return not (self.delta or self.compressor or self.checksum)

    @cached_property
    def size(self) -> int:
        """Size of the decoded chunk in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def largest_stored(self) -> int:
        """Upper bound of a chunk's stored size in bytes; larger ones are refused."""
        return self.size + self.size // 128 + 1024

    @cached_property
    def smallest_stored(self) -> int:
        """Lower bound of a chunk's stored size in bytes: a block of zstd, 128 kB at most, takes four bytes or more."""
        return (self.size // _ZSTD_MOST if self.compressor else self.size) + 4 * self.checksum

    def as_written(self, stored: np.ndarray) -> np.ndarray:
        """Decoded chunks [chunk, *stored_shape] as C-contiguous [chunk, *shape]."""
        return reordered(stored, self.order, range(len(self.shape)))

    def values(self, data: bytes) -> np.ndarray:
        """Decode one chunk into a new array of `shape`. Raises ChunkError for damaged bytes."""
        stored = np.empty((1, *self.stored_shape), self.dtype)
        self.decode(data, stored[0])
        return np.asarray(self.as_written(stored)[0])

    def decode(self, data: bytes | memoryview, out: np.ndarray) -> None:
        """Decode one chunk into `out`, contiguous and of `stored_shape`. Raises ChunkError for damaged bytes."""
        body = memoryview(data)
        if self.checksum:
            body = check_crc32c(body)
        size = len(body) if self.compressor is None else _STATED_SIZE[self.compressor](body)
        if size != self.size:
            raise ChunkError(f"expected a chunk of {self.size} bytes, found one of {size}")
        if self.compressor == "blosc":
            _check_blosc_blocks(body)
        flat = out.reshape(-1).view(np.uint8)
        if self.compressor is None:
            flat[:] = np.frombuffer(body, np.uint8)
        else:
            _decompress(self.compressor, body, flat)
        if self.delta:
            _undo_delta(flat)


def _decompress(compressor: Compressor, body: memoryview, out: UInt8[np.ndarray, " byte"]) -> None:
    try:
        if compressor == "zstd":
            _ZSTD.decode(body, out)
        else:
            blosc.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise ChunkError(f"it cannot be decoded ({error})") from error


def _undo_delta(differences: UInt8[np.ndarray, " byte"]) -> None:
    """Replace differences by their cumulative sum modulo 256, in place. torch, if loaded, is seven times faster."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.from_numpy(differences).cumsum_(0)
    else:
        np.cumsum(differences, dtype=np.uint8, out=differences)


def _zstd_size(frame: memoryview) -> int | None:
    """The content size in the header of a Zstandard frame (RFC 8878, 3.1.1.1), None if it is absent.

    The decoder writes exactly this size and refuses further frames, for which no room is left.
    """
    if len(frame) < 9 or int.from_bytes(frame[:4], "little") != _ZSTD_MAGIC:
        raise ChunkError("expected a Zstandard frame")
    descriptor = frame[4]
    single = bool(descriptor & 0x20)
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (int(single), 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(frame[start : start + width], "little") + 256 * (width == 2) if width else None


def _blosc_size(container: memoryview) -> int:
    """The decoded size in the header of a Blosc container of zstd without shuffle, which must state its own size."""
    if len(container) < _BLOSC_HEADER.size:
        raise ChunkError("expected a Blosc container")
    version, _, flags, _, size, _, stored = _BLOSC_HEADER.unpack_from(container)
    if (version, flags & ~(_BLOSC_SPLIT | _BLOSC_COPIED), stored) != (_BLOSC_FORMAT, _BLOSC_ZSTD, len(container)):
        raise ChunkError(f"expected a Blosc container of {len(container)} bytes of zstd, found another header")
    return int(size)


def _check_blosc_blocks(container: memoryview) -> None:
    """Raise ChunkError unless all blocks begin within the container, or it holds the bytes as they are."""
    _, _, flags, _, size, block, stored = _BLOSC_HEADER.unpack_from(container)
    blocks = -(-size // max(block, 1)) * (not flags & _BLOSC_COPIED)
    first = _BLOSC_HEADER.size + 4 * blocks
    starts = struct.unpack_from(f"<{blocks}I", container, _BLOSC_HEADER.size) if first <= stored else (0,)
    copied = stored - _BLOSC_HEADER.size == size or not flags & _BLOSC_COPIED
    if not copied or not all(first <= start <= stored - 4 for start in starts):
        raise ChunkError("expected the blocks of a Blosc container within it")


_STATED_SIZE = {"zstd": _zstd_size, "blosc": _blosc_size}
