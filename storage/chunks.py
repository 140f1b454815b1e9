"""From a chunk's stored bytes to its values, straight into memory that the caller owns.

Understood is what the schema may choose: `transpose` and `numcodecs.delta` (optional), `bytes`, then zstd or
blosc (or neither), then crc32c (optional). Nothing is taken on trust: what a chunk says that it decodes to must be exactly the size that
the array's metadata gives, before a byte is decoded, and a checksum that is there is checked.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

_ZSTD_MAGIC = 0xFD2FB528
_ZSTD, _BLOSC = Zstd(), Blosc()


class ChunkError(ValueError):
    """Stored bytes that are not what the array's metadata says."""


def check_crc32c(data: memoryview) -> memoryview:
    """The data without their last four bytes, which must be the CRC-32C of the rest, little-endian."""
    body = data[:-4]
    if len(data) < 4 or google_crc32c.value(bytes(body)) != int.from_bytes(data[-4:], "little"):
        raise ChunkError("its checksum does not match")
    return body


@dataclass(frozen=True, kw_only=True)
class ChunkLayout:
    """How one chunk is stored. `stored_shape` is `shape` with its axes in the order `order`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    differences: bool = False
    compressor: Literal["zstd", "blosc"] | None
    checksum: bool

    @classmethod
    def from_codecs(
        cls, codecs: Sequence[Mapping[str, Any]], shape: Sequence[int], dtype: np.dtype[Any]
    ) -> "ChunkLayout":
        """From the codecs of a `zarr.json`. Raises ChunkError for any that are not of the kind above."""
        names = [str(codec.get("name")) for codec in codecs]
        order = tuple(range(len(shape)))
        rest = list(names)
        if rest[:1] == ["transpose"]:
            given = codecs[0].get("configuration", {}).get("order")
            if not isinstance(given, list) or sorted(given) != list(order):
                raise ChunkError(f"expected a transposition of {len(shape)} axes, found {given}")
            order = tuple(given)
            rest.pop(0)
        differences = rest[:1] == ["numcodecs.delta"]
        if differences:
            if codecs[len(names) - len(rest)].get("configuration") != {"dtype": "|u1"} or dtype != np.uint8:
                raise ChunkError(f"expected differences of bytes, found the codecs {names}")
            rest.pop(0)
        if rest[:1] != ["bytes"] or (codecs[len(names) - len(rest)].get("configuration") or {}).get(
            "endian", "little"
        ) != ("little"):
            raise ChunkError(f"expected little-endian bytes, found the codecs {names}")
        rest.pop(0)
        compressor = rest.pop(0) if rest[:1] in (["zstd"], ["blosc"]) else None
        checksum = rest[:1] == ["crc32c"]
        if rest[checksum:]:
            raise ChunkError(f"expected transpose, bytes, zstd or blosc, crc32c, found the codecs {names}")
        little = dtype.newbyteorder("<")
        return cls(
            shape=tuple(shape),
            dtype=little,
            order=order,
            differences=differences,
            compressor=compressor,
            checksum=checksum,
        )

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def size(self) -> int:
        """Bytes of the decoded chunk."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def largest_stored(self) -> int:
        """More bytes than this no encoder makes of a chunk; a claim of more is not believed."""
        return self.size + self.size // 128 + 1024

    def as_written(self, stored: np.ndarray) -> np.ndarray:
        """A view [chunk, *shape] of decoded chunks [chunk, *stored_shape]."""
        back = np.argsort(self.order)
        return stored.transpose(0, *(int(axis) + 1 for axis in back))

    def decode(self, data: bytes | memoryview, out: np.ndarray) -> None:
        """Decode one chunk into `out`, contiguous and of `stored_shape`. Raises ChunkError for damaged bytes."""
        body = memoryview(data)
        if self.checksum:
            body = check_crc32c(body)
        if self.compressor is None:
            if len(body) != self.size:
                raise ChunkError(f"expected {self.size} bytes, found {len(body)}")
            out.reshape(-1).view(np.uint8)[:] = np.frombuffer(body, np.uint8)
            return
        says, codec = (_zstd_size(body), _ZSTD) if self.compressor == "zstd" else (_blosc_size(body), _BLOSC)
        if says != self.size:
            raise ChunkError(f"expected a chunk of {self.size} bytes, found one of {says}")
        try:
            codec.decode(body, out)
        except (RuntimeError, ValueError) as error:
            raise ChunkError(f"it cannot be decoded ({error})") from error
        if self.differences:
            np.cumsum(out.reshape(-1), dtype=np.uint8, out=out.reshape(-1))


def _zstd_size(frame: memoryview) -> int | None:
    """The size that a Zstandard frame's header states (RFC 8878, 3.1.1.1), None where it states none.

    The decoder fills just as much and refuses further frames, for which there is no room.
    """
    if len(frame) < 18 or int.from_bytes(frame[:4], "little") != _ZSTD_MAGIC:
        raise ChunkError("it is no Zstandard frame")
    descriptor = frame[4]
    single = bool(descriptor & 0x20)
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (int(single), 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(frame[start : start + width], "little") + 256 * (width == 2) if width else None


def _blosc_size(data: memoryview) -> int:
    """The size that the header of a Blosc 1 chunk states, whose own length must be stated rightly too."""
    if len(data) < 16:
        raise ChunkError("it is no Blosc chunk")
    decoded, _, stored = struct.unpack_from("<III", data, 4)
    if stored != len(data):
        raise ChunkError(f"expected a Blosc chunk of {len(data)} bytes, found one of {stored}")
    return int(decoded)
