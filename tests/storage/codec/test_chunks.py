"""Chunks of all layouts decode to exactly what zarr wrote; everything else is refused."""

import contextlib
import json
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import example, given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.codecs.numcodecs import Delta

from spinmeround.storage.codec import ChunkError, ChunkLayout
from spinmeround.storage.codec.chunks import Compressor
from spinmeround.storage.dataset.files import LocalFiles
from spinmeround.storage.dataset.shard_layout import ShardLayout

pytestmark = pytest.mark.fast


def plain(compressor: Compressor | None, *, checksum: bool = False, shape: tuple[int, ...] = (6, 5, 3)) -> ChunkLayout:
    return ChunkLayout(
        shape=shape,
        dtype=np.dtype("u1"),
        order=(0, 1, 2),
        delta=False,
        compressor=compressor,
        checksum=checksum,
    )


PIXELS = np.random.default_rng(0).integers(0, 9, (6, 5, 3)).astype(np.uint8)
BLOCKS = np.repeat(PIXELS, 10, axis=0)
"""Pixels of several Blosc blocks; it stores fewer than 128 bytes as they are."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {},
    "raw with checksum": {"compressors": [Crc32cCodec()]},
    "zstd": {"compressors": [ZstdCodec(level=3, checksum=True)]},
    "zstd with checksum": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "planes": {"filters": [TransposeCodec(order=(0, 1, 4, 2, 3))], "compressors": [ZstdCodec(level=3)]},
    "blosc of planes": {
        "filters": [TransposeCodec(order=(0, 1, 4, 3, 2))],
        "compressors": [BloscCodec(typesize=1, clevel=5, shuffle="noshuffle", blocksize=128), Crc32cCodec()],
    },
    "raw planes": {"filters": [TransposeCodec(order=(0, 1, 3, 4, 2))]},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_every_layout_of_the_schema_reads_what_zarr_wrote(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    """Any views of a shard decode to the values that zarr wrote."""
    written = np.random.default_rng(1).integers(0, 200, (2, 5, 7, 6, 3)).astype(dtype)
    layout = write(tmp_path, written, **options)
    for views in ([0], [4, 1, 1], [0, 1, 2, 3, 4]):
        np.testing.assert_array_equal(read(tmp_path, layout, "c/1/0/0/0/0", views), written[1, views])


def layout_of(path: Path) -> ShardLayout:
    return ShardLayout.from_metadata(json.loads((path / "zarr.json").read_bytes()))


def read(root: Path, layout: ShardLayout, file: str, views: list[int]) -> np.ndarray:
    out = np.empty((len(views), *layout.chunk.stored_shape), layout.chunk.dtype)
    with LocalFiles(root).shard(file, layout.index_size, at_end=layout.index_at_end) as blob:
        layout.read(blob, views, out)
    return layout.chunk.as_written(out)


def write(path: Path, written: np.ndarray, **options: Any) -> ShardLayout:
    options = {"compressors": None, "filters": None} | options
    array = zarr.create_array(
        path,
        shape=written.shape,
        dtype=written.dtype,
        shards=(1, *written.shape[1:]),
        chunks=(1, 1, *written.shape[2:]),
        **options,
    )
    array[...] = written
    return layout_of(path)


@pytest.mark.parametrize("loaded", [True, False], ids=["torch", "numpy"])
def test_deltas_are_decoded(tmp_path: Path, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delta along columns decodes to the values that zarr wrote, with and without torch."""
    import torch

    assert torch.__name__ in sys.modules
    if not loaded:
        monkeypatch.delitem(sys.modules, "torch")
    written = np.random.default_rng(2).integers(0, 256, (2, 5, 7, 6, 3)).astype(np.uint8)
    filters = [TransposeCodec(order=(0, 1, 3, 4, 2)), Delta(dtype="|u1")]
    layout = write(tmp_path, written, filters=filters, compressors=[ZstdCodec(level=3, checksum=True)])
    assert layout.chunk.delta
    np.testing.assert_array_equal(read(tmp_path, layout, "c/1/0/0/0/0", [4, 0]), written[1, [4, 0]])


def test_an_index_at_the_start(tmp_path: Path) -> None:
    """The shard index may be at the start of the file."""
    written = np.arange(2 * 3 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 4, 3)
    sharding = ShardingCodec(chunk_shape=(1, 1, 4, 4, 3), codecs=[BytesCodec(), ZstdCodec()], index_location="start")
    array = zarr.create(
        written.shape, chunks=(1, 3, 4, 4, 3), dtype="u1", codecs=[sharding], store=tmp_path, zarr_format=3
    )
    array[...] = written
    layout = layout_of(tmp_path)
    np.testing.assert_array_equal(read(tmp_path, layout, "c/0/0/0/0/0", [2])[0], written[0, 2])


REFUSED = {
    "gzip": [{"name": "bytes"}, {"name": "gzip"}],
    "nothing": [],
    "big endian": [{"name": "bytes", "configuration": {"endian": "big"}}],
    "two compressors": [{"name": "bytes"}, {"name": "zstd"}, {"name": "zstd"}],
    "delta of words": [
        {"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}},
        {"name": "bytes"},
        {"name": "zstd"},
    ],
    "checksum first": [{"name": "bytes"}, {"name": "crc32c"}, {"name": "zstd"}],
    "zstd and blosc": [{"name": "bytes"}, {"name": "zstd"}, {"name": "blosc"}],
    "no order": [{"name": "transpose"}, {"name": "bytes"}],
    "wrong order": [{"name": "transpose", "configuration": {"order": [0, 0, 1]}}, {"name": "bytes"}],
}


@pytest.mark.parametrize("codecs", REFUSED.values(), ids=REFUSED)
def test_other_codecs_are_refused(codecs: list[dict[str, Any]]) -> None:
    """Codecs outside the schema, and its codecs in another order, are refused."""
    with pytest.raises(ChunkError, match="expected"):
        ChunkLayout.from_codecs(codecs, (6, 5, 3), np.dtype("u1"))


ENCODERS: dict[Compressor, numcodecs.abc.Codec] = {
    "zstd": numcodecs.Zstd(3, checksum=True),
    "blosc": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.NOSHUFFLE, blocksize=128, typesize=1),
}


@pytest.mark.parametrize("compressor", ENCODERS)
@pytest.mark.parametrize("size", [0, 1, 89, 91, 2**28])
def test_a_chunk_of_another_size_is_refused_before_it_is_decoded(size: int, compressor: Compressor) -> None:
    """Frames of another size are refused without allocating their memory, including a zip bomb."""
    encoder = numcodecs.Zstd(3) if compressor == "zstd" else numcodecs.Blosc("zstd", 5, numcodecs.Blosc.NOSHUFFLE)
    stored = encoder.encode(np.zeros(size, np.uint8))
    tracemalloc.start()
    try:
        with pytest.raises(ChunkError):
            plain(compressor).decode(stored, np.empty((6, 5, 3), np.uint8))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def forged(position: int, value: bytes) -> bytes:
    """A Blosc container of the right pixels with other bytes at a position of its header or of its block starts."""
    data = bytes(ENCODERS["blosc"].encode(BLOCKS))
    return data[:position] + value + data[position + len(value) :]


FORGED = {
    "format": forged(0, b"\x03"),
    "shuffled": forged(2, bytes([0x91])),
    "lz4": forged(2, bytes([0x30])),
    "decoded size": forged(4, struct.pack("<I", 901)),
    "huge decoded size": forged(4, struct.pack("<I", 2**31 - 17)),
    "no block size": forged(8, struct.pack("<I", 0)),
    "more blocks than bytes": forged(8, struct.pack("<I", 1)),
    "stored size": forged(12, struct.pack("<I", 40)),
    "block outside": forged(16, struct.pack("<I", 2**31)),
    "block in the header": forged(20, struct.pack("<I", 4)),
    "copied": forged(2, bytes([0x92])),
    "header alone": forged(0, b"")[:16],
    "less than a header": forged(0, b"")[:15],
    "cut": forged(0, b"")[:-1],
    "longer": forged(0, b"") + b"\0",
}


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_a_forged_blosc_container_is_refused(data: bytes) -> None:
    """A header or a block start that contradicts the array's metadata or the stored bytes is a ChunkError."""
    out = np.empty_like(BLOCKS)
    plain("blosc", shape=BLOCKS.shape).decode(forged(0, b""), out)
    np.testing.assert_array_equal(out, BLOCKS)
    with pytest.raises(ChunkError):
        plain("blosc", shape=BLOCKS.shape).decode(data, out)


def test_frames_after_the_first_are_refused() -> None:
    """Two concatenated frames are refused, although the first has the right size; so is a frame without a size."""
    frame = numcodecs.Zstd(3).encode(PIXELS)
    with pytest.raises(ChunkError, match="cannot be decoded"):
        plain("zstd").decode(frame + frame, np.empty_like(PIXELS))
    unstated = frame[:4] + bytes([0x00, 0x58]) + frame[6:]
    with pytest.raises(ChunkError, match="found one of None"):
        plain("zstd").decode(unstated, np.empty_like(PIXELS))


@given(
    compressor=st.sampled_from(list(ENCODERS)),
    changes=st.lists(st.tuples(st.integers(0, 10**4), st.integers(1, 255)), max_size=4),
    cut=st.integers(0, 40),
)
@example(compressor="zstd", changes=[(4, 255)], cut=0)
@example(compressor="blosc", changes=[(2, 2)], cut=0)
def test_damage_is_a_chunk_error_or_harmless(compressor: Compressor, changes: list[tuple[int, int]], cut: int) -> None:
    """Changed or truncated bytes before a chunk's CRC-32C raise ChunkError or decode to the right pixels."""
    data = bytearray(ENCODERS[compressor].encode(PIXELS))
    data += struct.pack("<I", google_crc32c.value(bytes(data)))
    for position, change in changes:
        data[position % len(data)] ^= change
    out = np.empty_like(PIXELS)
    try:
        plain(compressor, checksum=True).decode(bytes(data[: len(data) - cut]), out)
    except ChunkError:
        return
    np.testing.assert_array_equal(out, PIXELS)


@given(
    changes=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.integers(0, 60),
    more=st.binary(max_size=20),
    honest=st.booleans(),
)
def test_a_hostile_blosc_container_is_a_chunk_error_or_decodes(
    changes: list[tuple[int, int]], cut: int, more: bytes, honest: bool
) -> None:
    """Without a checksum too, no bytes make the decoder write outside of its room or raise another error.

    `honest` corrects the stored size, so that changes reach the decoder.
    """
    data = bytearray(ENCODERS["blosc"].encode(BLOCKS))
    for position, value in changes:
        data[position % len(data)] = value
    data = data[: len(data) - cut] + more
    if honest and len(data) >= 16:
        data[:4], data[4:8], data[12:16] = b"\2\1\x90\1", struct.pack("<I", BLOCKS.nbytes), struct.pack("<I", len(data))
    room = np.full(BLOCKS.nbytes + 2 * 4096, 7, np.uint8)
    with contextlib.suppress(ChunkError):
        plain("blosc", shape=BLOCKS.shape).decode(bytes(data), room[4096:-4096].reshape(BLOCKS.shape))
    assert (room[:4096] == 7).all()
    assert (room[-4096:] == 7).all()


def test_a_checksum_is_checked() -> None:
    """The CRC-32C detects a flipped bit; a chunk shorter than a checksum is refused."""
    raw = plain(None, checksum=True)
    stored = PIXELS.tobytes() + struct.pack("<I", google_crc32c.value(PIXELS.tobytes()))
    out = np.empty_like(PIXELS)
    raw.decode(stored, out)
    np.testing.assert_array_equal(out, PIXELS)
    for damaged in (stored[:5] + bytes([stored[5] ^ 1]) + stored[6:], stored[:3], stored[4:]):
        with pytest.raises(ChunkError, match="checksum"):
            raw.decode(damaged, out)


def test_a_wrong_index_is_refused(tmp_path: Path) -> None:
    """A missing chunk, one past the end of the file, one that is too long, and an index with a flipped bit."""
    layout = write(tmp_path, np.ones((1, 3, 4, 4, 3), np.uint8))
    file = tmp_path / "c/0/0/0/0/0"
    good = file.read_bytes()
    wrong = [
        (struct.pack("<QQ", 2**64 - 1, 2**64 - 1), "view 0 is missing"),
        (struct.pack("<QQ", len(good), 48), "within the file"),
        (struct.pack("<QQ", 0, 2**62), "within the file"),
        (struct.pack("<QQ", 0, 47), "of 48 bytes, found one of 47"),
    ]
    for entry, message in wrong:
        file.write_bytes(with_index(good, entry))
        with pytest.raises(ChunkError, match=message):
            read(tmp_path, layout, "c/0/0/0/0/0", [0])
    file.write_bytes(good[:-10] + bytes([good[-10] ^ 1]) + good[-9:])
    with pytest.raises(ChunkError, match="index is damaged"):
        read(tmp_path, layout, "c/0/0/0/0/0", [0])


def with_index(shard: bytes, first: bytes) -> bytes:
    """The shard with another index entry for its first chunk, and a valid checksum."""
    index = first + shard[-(3 * 16 + 4) + 16 : -4]
    return shard[: -(3 * 16 + 4)] + index + struct.pack("<I", google_crc32c.value(index))


def test_links_are_refused(tmp_path: Path) -> None:
    """A shard that is a link, or in a folder that is a link, is not opened."""
    write(tmp_path / "there", np.ones((2, 3, 4, 4, 3), np.uint8))
    write(tmp_path / "here", np.ones((2, 3, 4, 4, 3), np.uint8))
    file = tmp_path / "here/c/0/0/0/0/0"
    file.unlink()
    file.symlink_to(tmp_path / "there/c/0/0/0/0/0")
    (tmp_path / "here/c/1").rename(tmp_path / "elsewhere")
    (tmp_path / "here/c/1").symlink_to(tmp_path / "elsewhere")
    for name in ("c/0/0/0/0/0", "c/1/0/0/0/0"):
        with pytest.raises(ChunkError, match="is a link"), LocalFiles(tmp_path / "here").shard(name, 52, at_end=True):
            pass
