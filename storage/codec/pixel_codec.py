"""Lossless compression of pixels, with codecs of Zarr v3.

    delta    transpose to (width, channel, height), subtract from each value the one above it modulo 256, then zstd.
             Within a tenth of PNG's size, and several times faster to decode. The subtraction is the codec
             `numcodecs.delta`, available in zarr-python; a cumulative sum undoes it.
    plain    zstd only, supported by every reader of Zarr v3; about twice PNG's size for smooth images.

Masks and small arrays are always `plain`. `spinmeround bench codecs` compares these and other codecs.

The transposition must not reverse all axes: numcodecs takes a fully reversed view for an array in Fortran order and
encodes the wrong values.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field
from zarr.codecs import TransposeCodec, ZstdCodec
from zarr.codecs.numcodecs import Delta
from zarr.errors import ZarrUserWarning

from spinmeround.storage.records import FrozenModel

COLUMNS_FIRST = (0, 1, 3, 4, 2)
"""(subject, view, height, width, channel) as (subject, view, width, channel, height)."""

warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr", category=ZarrUserWarning)


class PixelCodec(FrozenModel):
    """Compression of RGB and normals: lossless, with a checksum per chunk."""

    kind: Literal["delta", "plain"] = Field(
        default="delta",
        description="delta: near PNG's size, read by zarr-python; plain: read by any Zarr v3 reader",
    )
    level: int = Field(default=1, ge=1, le=22, description="zstd level: higher is smaller and slower to write")

    def compressors(self) -> list[ZstdCodec]:
        """Codecs that compress bytes."""
        return [ZstdCodec(level=self.level, checksum=True)]

    def filters(self) -> list[Any]:
        """Codecs that zarr applies before to images with channels."""
        return [TransposeCodec(order=COLUMNS_FIRST), Delta(dtype="|u1")] if self.kind == "delta" else []


DEFAULT_CODEC = PixelCodec()

Codecs = Sequence[Mapping[str, Any]]
_DELTA = [
    {"name": "transpose", "configuration": {"order": list(COLUMNS_FIRST)}},
    {"name": "numcodecs.delta", "configuration": {"dtype": "|u1"}},
]
_BYTES = ({"name": "bytes"}, {"name": "bytes", "configuration": {"endian": "little"}})


def codec_of(metadata: Mapping[str, Any]) -> PixelCodec:
    """The codec in an array's checked metadata."""
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    kind: Literal["delta", "plain"] = "delta" if inner[:2] == _DELTA else "plain"
    return PixelCodec(kind=kind, level=inner[-1]["configuration"]["level"])


def codec_problem(codecs: Any, *, inner_chunk: Sequence[int] | None, filtered: bool) -> str | None:
    """How an array's codecs violate the schema, or None.

    `inner_chunk` is the chunk shape of an array with shards; `filtered` arrays may use the delta.
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
    """Accepts, in this order: the delta if `filtered`, bytes, optional zstd, optional crc32c."""
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        return f"expected a list of codecs, found {_short(codecs)}"
    rest = codecs[2:] if filtered and codecs[:2] == _DELTA else codecs
    names = [codec.get("name") for codec in rest[1:]]
    if rest[:1] in ([each] for each in _BYTES) and names in (["zstd"], [], ["crc32c"], ["zstd", "crc32c"]):
        return None
    return f"expected bytes and zstd{', optionally after the delta' if filtered else ''}, found {_short(codecs)}"


def _short(value: Any) -> str:
    return text if len(text := repr(value)) < 200 else f"{text[:200]}..."
