"""Image codecs: bytes on disk against decoded samples per second.

A sample is RGB and normals of 8 views, decoded one after the other in one thread by the codec's own library into
reused memory, and converted to float32 planes [3, height, width] in [-1, 1], which is what a network takes. The images
are rendered procedural heads. Sizes are exact. Times are processor time, the least of several rounds, each of which
runs all codecs in turn, so that ratios are valid on a busy machine too.
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import UInt8
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from PIL import Image

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.normals import encode_normals, fill_normals_under_mask, make_normal_renderer
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.storage.codec import reordered
from spinmeround.tasks.heads.mesh import mesh_head
from spinmeround.tasks.loading.tensors import to_unit_range

Picture = UInt8[np.ndarray, "height width 3"]
VIEWS = 8
PLANES = (2, 0, 1)
COLOURS = {"core": "tab:blue", "python": "tab:orange", "": "tab:grey"}
CHOSEN = "planes down columns, blosc zstd 7, blocks of 256 KiB"


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to store an image, whose axes are decoded in the order `order`.

    `zarr` is "core" for codecs of the Zarr v3 core, "python" for those that only zarr-python reads, else empty.
    """

    name: str
    encode: Callable[[Picture], bytes]
    decode: Callable[[bytes, tuple[int, ...]], np.ndarray]
    order: tuple[int, ...] = (0, 1, 2)
    zarr: str = ""


def heads_pictures(heads: int, side: int, grain: float) -> list[Picture]:
    """RGB and normals of some views of clean procedural heads; `grain` is the noise on the heads, in 8-bit steps."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    cameras = ViewGrid(azimuths=VIEWS // 2, elevations_deg=(-15.0, 0.0)).cameras()
    renderer = make_normal_renderer("auto", threads=1)
    pictures: list[Picture] = []
    for seed in range(heads):
        identity = generator.sample(seed)
        views = generator.render(identity, cameras, side)
        maps = renderer.render(mesh_head(generator, identity, MeshParams(resolution=128)), cameras, side)
        normals = encode_normals(fill_normals_under_mask(maps.normals, maps.hit, views.mask), views.mask)
        noise = np.random.default_rng(seed).normal(0.0, grain, views.rgb.shape)
        grainy = np.where(views.mask[..., None] > 0, np.rint(views.rgb + noise).clip(0, 255), views.rgb)
        pictures += [*grainy.astype(np.uint8), *normals]
    return pictures


def file_codec(name: str, form: str, **options: Any) -> Codec:
    """An image format of Pillow."""

    def encode(picture: Picture) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, form, **options)
        return stream.getvalue()

    return Codec(name=name, encode=encode, decode=lambda data, shape: np.array(Image.open(io.BytesIO(data))))


def array_codec(name: str, codec: Any, order: tuple[int, ...] = (0, 1, 2), *, delta: bool = False) -> Codec:
    """A chain of Zarr codecs: transpose, difference, compressor."""
    room = dict[int, np.ndarray]()

    def encode(picture: Picture) -> bytes:
        flat = np.ascontiguousarray(picture.transpose(order)).reshape(-1)
        return bytes(codec.encode(np.diff(flat, prepend=np.uint8(0)) if delta else flat))

    def decode(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        out = room.setdefault(size, np.empty(size, np.uint8))
        codec.decode(data, out)
        if delta:
            torch.from_numpy(out).cumsum_(0)
        return out.reshape([shape[axis] for axis in order])

    return Codec(name=name, encode=encode, decode=decode, order=order, zarr="python" if delta else "core")


def blosc(level: int, shuffle: int = Blosc.NOSHUFFLE, *, typesize: int = 1, block: int = 0, name: str = "zstd") -> Any:
    return Blosc(name, level, shuffle, block, typesize=typesize)


def as_network_input(codec: Codec, decoded: np.ndarray, out: torch.Tensor) -> torch.Tensor:
    """Decoded bytes as float32 planes in `out`."""
    planes = reordered(decoded[None], codec.order, PLANES)[0]
    return to_unit_range(torch.from_numpy(planes), out)


def codecs() -> list[Codec]:
    """All codecs. Orders: 2 1 0 is planes down columns, 1 2 0 (width, channel, height), 2 0 1 planes along rows."""
    columns, planes, mixed = (2, 1, 0), (2, 0, 1), (1, 2, 0)
    bits, bytes_ = Blosc.BITSHUFFLE, Blosc.SHUFFLE
    down = "planes down columns"
    return [
        file_codec("PNG", "PNG"),
        file_codec("WebP lossless", "WEBP", lossless=True, method=4),
        *(array_codec(f"zstd {level}", Zstd(level=level)) for level in (1, 7)),
        *(array_codec(f"planes along rows, zstd {level}", Zstd(level=level), planes) for level in (9, 15)),
        *(array_codec(f"columns of (width, channel, height), zstd {n}", Zstd(level=n), mixed) for n in (9, 15)),
        *(array_codec(f"{down}, zstd {level}", Zstd(level=level), columns) for level in (3, 9, 13, 15)),
        *(
            array_codec(f"{down}, blosc zstd {level}, blocks of 256 KiB", blosc(level, block=2**18), columns)
            for level in (3, 5, 7, 8)
        ),
        array_codec(f"{down}, blosc zstd 5, bitshuffle", blosc(5, bits), columns),
        array_codec(f"{down}, blosc lz4hc 5", blosc(5, name="lz4hc"), columns),
        array_codec("blosc zstd 5, shuffle of 3 bytes", blosc(5, bytes_, typesize=3)),
        array_codec("blosc zstd 5, bitshuffle of 3 bytes", blosc(5, bits, typesize=3)),
        array_codec("blosc zstd 5, shuffle of 4 bytes", blosc(5, bytes_, typesize=4)),
        array_codec("blosc zstd 5, bitshuffle", blosc(5, bits)),
        array_codec("blosc lz4hc 5, bitshuffle", blosc(5, bits, name="lz4hc")),
        array_codec("blosc lz4 5, shuffle of 3 bytes", blosc(5, bytes_, typesize=3, name="lz4")),
        *(array_codec(f"delta down columns, zstd {n}", Zstd(level=n), mixed, delta=True) for n in (1, 7)),
    ]


def measure(codec_list: Sequence[Codec], pictures: Sequence[Picture], rounds: int) -> list[dict[str, Any]]:
    """One row per codec. Raises AssertionError if a codec is not lossless."""
    stored, encode_s = {}, {}
    height, width, channels = pictures[0].shape
    outs = torch.empty(len(pictures), channels, height, width)
    for codec in codec_list:
        start = time.process_time()
        stored[codec.name] = [codec.encode(picture) for picture in pictures]
        encode_s[codec.name] = time.process_time() - start
        for data, picture, out in zip(stored[codec.name], pictures, outs, strict=True):
            found = as_network_input(codec, codec.decode(data, picture.shape), out).numpy()
            np.testing.assert_array_equal(np.rint((found + 1) * 127.5).transpose(1, 2, 0), picture, codec.name)
    best = dict.fromkeys(stored, (float("inf"), float("inf")))
    for _ in range(rounds):
        for codec in codec_list:
            decoding = _decoding_s(codec, stored[codec.name], pictures[0].shape)
            floats = _decoding_s(codec, stored[codec.name], pictures[0].shape, outs)
            best[codec.name] = (min(best[codec.name][0], decoding), min(best[codec.name][1], floats))
    raw, png = sum(picture.nbytes for picture in pictures), sum(map(len, stored["PNG"]))
    samples = len(pictures) / (2 * VIEWS)
    return [
        {
            "codec": codec.name,
            "Zarr v3": codec.zarr,
            "size / raw": sum(map(len, stored[codec.name])) / raw,
            "size / PNG": sum(map(len, stored[codec.name])) / png,
            "samples decoded per second": samples / best[codec.name][0],
            "samples as floats per second": samples / best[codec.name][1],
            "times PNG": best["PNG"][1] / best[codec.name][1],
            "pictures encoded per second": len(pictures) / encode_s[codec.name],
        }
        for codec in codec_list
    ]


def _decoding_s(
    codec: Codec, stored: Sequence[bytes], shape: tuple[int, ...], outs: torch.Tensor | None = None
) -> float:
    start = time.process_time()
    for number, data in enumerate(stored):
        decoded = codec.decode(data, shape)
        if outs is not None:
            as_network_input(codec, decoded, outs[number])
    return time.process_time() - start


def draw(rows: Sequence[Mapping[str, Any]], side: int, to: Path) -> None:
    """Plot size against speed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(sorted(rows, key=lambda row: float(row["size / PNG"])), start=1):
        colour = "tab:red" if row["codec"] == CHOSEN else COLOURS[row["Zarr v3"]]
        place = (row["size / PNG"], row["samples as floats per second"])
        axes.scatter(*place, color=colour, s=30, label=f"{number}  {row['codec']}")
        above = number % 2
        axes.annotate(
            str(number),
            place,
            textcoords="offset points",
            xytext=(0, 6 if above else -7),
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
            color=colour,
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    axes.axvline(1.4, linestyle=":", color="black", linewidth=0.8)
    axes.set(
        xlabel="bytes on disk, PNG = 1",
        ylabel=f"samples per second, as float32 ({VIEWS} views of {side} px, RGB and normals)",
        yscale="log",
        title="Upper left is better. Red: default, blue: Zarr core, orange: zarr-python only",
    )
    figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)


def main(
    heads: Annotated[int, typer.Option(min=1, help="Number of procedural heads, 8 views each.")] = 4,
    side: Annotated[int, typer.Option(min=16, max=1024, help="Side of the images, in pixels.")] = 256,
    grain: Annotated[
        float, typer.Option(min=0.0, help="Standard deviation of the noise on the heads, in 8-bit steps.")
    ] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; the fastest counts.")] = 7,
    plot: Annotated[Path | None, typer.Option(help="Plot size against speed into this .svg or .png file.")] = None,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Compare the size and speed of image codecs."""
    torch.set_num_threads(1)
    rows = measure(codecs(), heads_pictures(heads, side, grain), rounds)
    if plot is not None:
        draw(rows, side, plot)
    return {
        f"codecs, {heads} heads at {side} px, grain {grain:g}": sorted(rows, key=lambda row: float(row["size / PNG"]))
    }
