"""Pixel codecs are lossless, and zarr and the code in the documentation can read them."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from numcodecs.zstd import Zstd

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

CODECS = [PixelCodec(), PixelCodec(level=9), PixelCodec(kind="plain"), PixelCodec(kind="plain", level=1)]


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
    """A chunk can be read without zarr and this package: index, frame, cumulative sum, transposition."""
    head = make_head(3, side=12)
    write_head(tmp_path / "head", head)
    path = publish(tmp_path / "datasets", [HeadEntry(id=head.id, folder=tmp_path / "head")], {}).path
    shard = (path / "rgb/c.0.0.0.0.0").read_bytes()
    views = json.loads((path / "rgb/zarr.json").read_text())["shape"][1]
    index = shard[-(16 * views + 4) : -4]
    for view in range(views):
        offset, length = struct.unpack_from("<QQ", index, 16 * view)
        data = np.frombuffer(Zstd().decode(shard[offset : offset + length]), np.uint8)
        columns = np.cumsum(data, dtype="uint8")
        np.testing.assert_array_equal(columns.reshape(12, 3, 12).transpose(2, 0, 1), head.rgb[view])


def test_smooth_images_are_near_png(tmp_path: Path) -> None:
    """A shaded ball takes at most a quarter more than PNG, and less than 0.7 of what plain zstd takes."""
    import io

    from PIL import Image

    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    z = np.sqrt(np.maximum(0.8 - x**2 - y**2, 0))
    ball = np.where((z > 0)[..., None], 128 + 127 * np.stack([x, y, z], axis=-1), 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ball).save(stream, "PNG")
    sizes = {}
    for kind in ("delta", "plain"):
        write(tmp_path / kind, "x-1", PixelCodec(kind=kind), rgb=np.stack([ball] * 20))
        sizes[kind] = (tmp_path / kind / "rgb.chunk").stat().st_size / 20
    assert sizes["delta"] < 1.25 * len(stream.getvalue())
    assert sizes["delta"] < 0.7 * sizes["plain"]


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
    ],
    ids=["no transposition", "reversed", "objects", "across views"],
)
def test_other_chains_are_refused(tmp_path: Path, codecs: list[dict[str, object]]) -> None:
    """Only the two codec chains of the schema are accepted, not similar ones."""
    head = make_head(1)
    write_head(tmp_path / "head", head, PixelCodec(kind="plain"))
    path = publish(tmp_path / "datasets", [HeadEntry(id=head.id, folder=tmp_path / "head")], {}).path
    metadata = json.loads((path / "rgb/zarr.json").read_text())
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    metadata["codecs"][0]["configuration"]["codecs"] = [*codecs, *inner]
    (path / "rgb/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="rgb: expected bytes and zstd"):
        HeadDataset.open(path)
