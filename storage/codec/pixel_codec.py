"""Lossless compression of pixels, with codecs of Zarr v3.

    planes   transpose to (channel, width, height), then Blosc's zstd in blocks of 256 KiB. Codecs of the core only, so
             that every reader of Zarr v3 has them; within 1.4 times PNG's size at 256 and 512 pixels.
    plain    zstd only; about twice PNG's size for smooth images.
    delta    transpose to (width, channel, height), subtract from each value the one above it modulo 256, then zstd.
             Within a tenth of PNG's size. The subtraction is `numcodecs.delta`, which only zarr-python reads; a
             cumulative sum undoes it. The default until version 0.1.0.

Masks and small arrays are always `plain`. Every chunk ends with its CRC-32C. `spinmeround bench codecs` compares these
and other codecs.

The transposition before a delta must not reverse all axes: numcodecs takes a fully reversed view for an array in
Fortran order and encodes the wrong values.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec
from zarr.codecs.numcodecs import Delta
from zarr.errors import ZarrUserWarning

from spinmeround.storage.records import FrozenParams

Kind = Literal["planes", "plain", "delta"]

PLANES_COLUMNS_FIRST = (0, 1, 4, 3, 2)
"""(subject, view, height, width, channel) as (subject, view, channel, width, height)."""

COLUMNS_FIRST = (0, 1, 3, 4, 2)
"""(subject, view, height, width, channel) as (subject, view, width, channel, height)."""

_BLOSC: dict[str, Any] = {"typesize": 1, "cname": "zstd", "shuffle": "noshuffle", "blocksize": 2**18}
"""zstd chooses its parameters by the size of a block: larger ones are compressed less at the same level."""

warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr", category=ZarrUserWarning)


class PixelCodec(FrozenParams):
    """Compression of RGB and normals: lossless, with a checksum per chunk."""

    kind: Kind = Field(
        default="planes",
        description="planes: near PNG's size, and plain: larger, are read by any Zarr v3 reader; delta: the smallest, "
        "read by zarr-python only",
    )
    level: int = Field(
        default=7,
        ge=1,
        le=22,
        description="Compression level, up to 9 for planes and to 22 otherwise: higher is smaller and slower to write",
    )

    @model_validator(mode="after")
    def _known_level(self) -> "PixelCodec":
        if self.kind == "planes" and self.level > 9:
            raise ValueError(f"level: expected at most 9 for planes, got {self.level}")
        return self

    def compressors(self) -> list[Any]:
        """Codecs that compress bytes, and the checksum."""
        compressor = BloscCodec(clevel=self.level, **_BLOSC) if self.kind == "planes" else ZstdCodec(level=self.level)
        return [compressor, Crc32cCodec()]

    def filters(self) -> list[Any]:
        """Codecs that zarr applies before to images with channels."""
        if self.kind == "planes":
            return [TransposeCodec(order=PLANES_COLUMNS_FIRST)]
        return [TransposeCodec(order=COLUMNS_FIRST), Delta(dtype="|u1")] if self.kind == "delta" else []


DEFAULT_CODEC = PixelCodec()

Codecs = Sequence[Mapping[str, Any]]
_PLANES = [{"name": "transpose", "configuration": {"order": list(PLANES_COLUMNS_FIRST)}}]
_DELTA = [
    {"name": "transpose", "configuration": {"order": list(COLUMNS_FIRST)}},
    {"name": "numcodecs.delta", "configuration": {"dtype": "|u1"}},
]
_BYTES = ({"name": "bytes"}, {"name": "bytes", "configuration": {"endian": "little"}})


def codec_of(metadata: Mapping[str, Any]) -> PixelCodec:
    """The codec in the checked metadata of an array with channels."""
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    kind: Kind = "planes" if inner[:1] == _PLANES else "delta" if inner[:2] == _DELTA else "plain"
    compressor = next(codec for codec in inner if codec["name"] in ("blosc", "zstd"))["configuration"]
    return PixelCodec(kind=kind, level=compressor["clevel" if kind == "planes" else "level"])


def codec_problem(codecs: Any, *, inner_chunk: Sequence[int] | None, filtered: bool) -> str | None:
    """How an array's codecs violate the schema, or None.

    `inner_chunk` is the chunk shape of an array with shards; `filtered` arrays may use planes and the delta.
    """
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        return f"expected a list of codecs, found {_short(codecs)}"
    if inner_chunk is None:
        return _chain_problem(codecs, filtered=False)
    if [codec.get("name") for codec in codecs] != ["sharding_indexed"]:
        return f"expected one shard per head, found {_short(codecs)}"
    sharding = codecs[0].get("configuration")
    if not isinstance(sharding, dict) or sharding.get("chunk_shape") != list(inner_chunk):
        return f"expected one chunk per view, of {list(inner_chunk)}, found {_short(sharding)}"
    index = sharding.get("index_codecs")
    if index not in ([_BYTES[1]], [_BYTES[1], {"name": "crc32c"}]):
        return f"expected an index of bytes and crc32c, found {_short(index)}"
    return _chain_problem(sharding.get("codecs"), filtered=filtered)


def _chain_problem(codecs: Any, *, filtered: bool) -> str | None:
    """Accepts, in this order: the delta if `filtered`, bytes, optional zstd, optional crc32c. Or planes, complete."""
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        return f"expected a list of codecs, found {_short(codecs)}"
    planes = filtered and codecs[:1] == _PLANES
    rest = codecs[1:] if planes else codecs[2:] if filtered and codecs[:2] == _DELTA else codecs
    names = [codec.get("name") for codec in rest[1:]]
    expected = (["blosc", "crc32c"],) if planes else (["zstd"], [], ["crc32c"], ["zstd", "crc32c"])
    if rest[:1] in ([each] for each in _BYTES) and names in expected and not (planes and _blosc_problem(rest[1])):
        return None
    allowed = ", optionally after the delta, or planes of Blosc's zstd" if filtered else ""
    return f"expected bytes and zstd{allowed}, found {_short(codecs)}"


def _blosc_problem(codec: Mapping[str, Any]) -> bool:
    found = codec.get("configuration")
    level = found.get("clevel") if isinstance(found, dict) else None
    return type(level) is not int or not 1 <= level <= 9 or found != {**_BLOSC, "clevel": level}


def _short(value: Any) -> str:
    return text if len(text := repr(value)) < 200 else f"{text[:200]}..."
