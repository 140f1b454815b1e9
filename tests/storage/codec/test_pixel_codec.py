"""Pixel codecs are lossless, and zarr and the code in the documentation can read them."""

import io
import json
import struct
from pathlib import Path

import numcodecs
import numpy as np
import pytest
from PIL import Image

from spinmeround.storage.codec.pixel_codec import Kind
from spinmeround.storage.dataset import (
    HeadDataset,
    HeadEntry,
    PixelCodec,
    pictures_codec,
    publish,
    read_pictures,
    write_head,
)
from spinmeround.storage.dataset import write_pictures as write
from spinmeround.storage.errors import DatasetError
from tests.support.heads import make_head, zarr_of

CODECS = [PixelCodec(), PixelCodec(level=1), *(PixelCodec(kind=kind, level=9) for kind in ("delta", "plain"))]


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (2, 16, 33)], ids=str)
def test_round_trip(tmp_path: Path, codec: PixelCodec, shape: tuple[int, int, int]) -> None:
    """Noise of any size is read back by this package and by zarr; the metadata give the codec."""
    rng = np.random.default_rng(0)
    rgb, mask = (rng.integers(0, 256, size, np.uint8) for size in ((*shape, 3), shape))
    write(tmp_path / "head", "x-1", codec, rgb=rgb, mask=mask)
    found = read_pictures(tmp_path / "head", "rgb", "mask")
    np.testing.assert_array_equal(found["rgb"], rgb)
    np.testing.assert_array_equal(found["mask"], mask)
    np.testing.assert_array_equal(zarr_of(tmp_path / "head")["rgb"][0], rgb)
    assert pictures_codec(tmp_path / "head", "rgb") == codec


def test_the_lines_of_the_documentation_read_a_chunk(tmp_path: Path) -> None:
    """A chunk can be read without zarr and this package: index, Blosc, transposition."""
    head = make_head(3, side=12)
    write_head(tmp_path / "head", head)
    path = publish(tmp_path / "datasets", [HeadEntry(id=head.id, folder=tmp_path / "head")], {}).path
    shard = (path / "rgb/c.0.0.0.0.0").read_bytes()
    views = json.loads((path / "rgb/zarr.json").read_text())["shape"][1]
    index = shard[-(16 * views + 4) : -4]
    for view in range(views):
        offset, length = struct.unpack_from("<QQ", index, 16 * view)
        planes = np.frombuffer(numcodecs.Blosc().decode(shard[offset : offset + length - 4]), np.uint8)
        np.testing.assert_array_equal(planes.reshape(3, 12, 12).transpose(2, 1, 0), head.rgb[view])


def test_smooth_images_are_near_png(tmp_path: Path) -> None:
    """A shaded ball takes at most 1.4 times (delta: 1.25 times) what PNG takes, and less than 0.7 of plain zstd."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    z = np.sqrt(np.maximum(0.8 - x**2 - y**2, 0))
    ball = np.where((z > 0)[..., None], 128 + 127 * np.stack([x, y, z], axis=-1), 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ball).save(stream, "PNG")
    kinds: dict[Kind, float] = {"planes": 1.4, "delta": 1.25, "plain": 9.0}
    sizes = {}
    for kind in kinds:
        write(tmp_path / kind, "x-1", PixelCodec(kind=kind), rgb=np.stack([ball] * 20))
        sizes[kind] = (tmp_path / kind / "rgb.chunk").stat().st_size / 20
        assert sizes[kind] < kinds[kind] * len(stream.getvalue())
    assert max(sizes["planes"], sizes["delta"]) < 0.7 * sizes["plain"]


def test_every_chunk_ends_with_its_checksum(tmp_path: Path) -> None:
    """The last codec of all arrays, of pixels, masks and small ones, is crc32c, whatever the codec of the pixels."""
    for codec in CODECS:
        write_head(tmp_path / f"{codec.kind}-{codec.level}", make_head(1), codec)
    heads = [json.loads(path.read_text())["arrays"] for path in tmp_path.glob("*/arrays.json")]
    arrays = [(name, array["codecs"]) for head in heads for name, array in head.items()]
    assert len(arrays) == len(CODECS) * 11
    for name, codecs in arrays:
        inner = codecs[0]["configuration"]["codecs"] if codecs[0]["name"] == "sharding_indexed" else codecs
        assert inner[-1] == {"name": "crc32c"}, name


def test_levels_of_blosc_end_at_nine() -> None:
    """A level that Blosc does not have is an error that names the field."""
    assert PixelCodec(kind="plain", level=22).level == 22
    with pytest.raises(ValueError, match="level: expected at most 9 for planes, got 10"):
        PixelCodec(level=10)


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "numcodecs.delta", "configuration": {"dtype": "|u1"}}],
        [
            {"name": "transpose", "configuration": {"order": [0, 1, 4, 3, 2]}},
            {"name": "numcodecs.delta", "configuration": {"dtype": "|u1"}},
        ],
        [
            {"name": "transpose", "configuration": {"order": [0, 1, 3, 4, 2]}},
            {"name": "numcodecs.delta", "configuration": {"dtype": "|u1", "astype": "|O"}},
        ],
        [{"name": "transpose", "configuration": {"order": [4, 3, 2, 1, 0]}}],
        [{"name": "transpose", "configuration": {"order": [0, 1, 4, 3, 2]}}],
    ],
    ids=["no transposition", "reversed", "objects", "across views", "planes of plain zstd"],
)
def test_other_chains_are_refused(tmp_path: Path, codecs: list[dict[str, object]]) -> None:
    """Only the codec chains of the schema are accepted, not similar ones."""
    head = make_head(1)
    write_head(tmp_path / "head", head, PixelCodec(kind="plain"))
    path = publish(tmp_path / "datasets", [HeadEntry(id=head.id, folder=tmp_path / "head")], {}).path
    metadata = json.loads((path / "rgb/zarr.json").read_text())
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    metadata["codecs"][0]["configuration"]["codecs"] = [*codecs, *inner]
    (path / "rgb/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="rgb: expected bytes and zstd"):
        HeadDataset.open(path)


@pytest.mark.parametrize(
    "change",
    [{"cname": "lz4"}, {"shuffle": "bitshuffle"}, {"typesize": 3}, {"clevel": 10}, {"clevel": True}, {"blocksize": 1}],
    ids=str,
)
def test_other_settings_of_blosc_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Blosc with another compressor, shuffle, block size or level than the schema's is refused."""
    head = make_head(1)
    write_head(tmp_path / "head", head)
    path = publish(tmp_path / "datasets", [HeadEntry(id=head.id, folder=tmp_path / "head")], {}).path
    metadata = json.loads((path / "rgb/zarr.json").read_text())
    metadata["codecs"][0]["configuration"]["codecs"][2]["configuration"] |= change
    (path / "rgb/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="rgb: expected bytes and zstd"):
        HeadDataset.open(path)
