"""Image codecs: bytes on disk against decoded samples per second.

A sample is RGB and normals of 8 views, decoded one after the other in one thread by the codec's own library into
reused memory. The images are rendered procedural heads. Sizes are exact. Times are the fastest of several rounds, each
of which runs all codecs in turn, so that ratios are valid on a busy machine too.
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
from spinmeround.tasks.heads.mesh import mesh_head

Picture = UInt8[np.ndarray, "height width 3"]
VIEWS = 8
CHOSEN = "delta down columns, zstd 1"


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to store an image; `zarr` is true if codecs of zarr-python can express it."""

    name: str
    encode: Callable[[Picture], bytes]
    decode: Callable[[bytes, tuple[int, ...]], Picture]
    zarr: bool = True


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

    return Codec(
        name=name, encode=encode, decode=lambda data, shape: np.asarray(Image.open(io.BytesIO(data))), zarr=False
    )


def array_codec(name: str, codec: Any, order: Sequence[int] = (0, 1, 2), *, delta: bool = False) -> Codec:
    """A chain of Zarr codecs: transpose, difference, compressor."""
    back, room = np.argsort(order), dict[int, np.ndarray]()

    def encode(picture: Picture) -> bytes:
        flat = np.ascontiguousarray(picture.transpose(order)).reshape(-1)
        return bytes(codec.encode(np.diff(flat, prepend=np.uint8(0)) if delta else flat))

    def decode(data: bytes, shape: tuple[int, ...]) -> Picture:
        size = int(np.prod(shape))
        out = room.setdefault(size, np.empty(size, np.uint8))
        codec.decode(data, out)
        if delta:
            torch.from_numpy(out).cumsum_(0)
        return out.reshape([shape[axis] for axis in order]).transpose(back)

    return Codec(name=name, encode=encode, decode=decode)


def codecs() -> list[Codec]:
    """All codecs. Orders: 1 2 0 is (width, channel, height), 2 0 1 is planar; numcodecs misreads 2 1 0."""
    columns, planar = (1, 2, 0), (2, 0, 1)
    return [
        file_codec("PNG", "PNG"),
        file_codec("WebP lossless", "WEBP", lossless=True, method=4),
        *(array_codec(f"zstd {level}", Zstd(level=level)) for level in (1, 3, 9, 19)),
        *(array_codec(f"planar, zstd {level}", Zstd(level=level), planar) for level in (3, 9)),
        *(array_codec(f"delta along rows, zstd {n}", Zstd(level=n), planar, delta=True) for n in (1, 3, 9)),
        *(array_codec(f"delta down columns, zstd {n}", Zstd(level=n), columns, delta=True) for n in (1, 3, 6, 9)),
        array_codec("blosc zstd 5", Blosc("zstd", 5, Blosc.NOSHUFFLE)),
        array_codec("blosc zstd 5, bitshuffle", Blosc("zstd", 5, Blosc.BITSHUFFLE)),
        array_codec("blosc lz4hc 5, bitshuffle", Blosc("lz4hc", 5, Blosc.BITSHUFFLE)),
        array_codec("delta, blosc zstd 5, bitshuffle", Blosc("zstd", 5, Blosc.BITSHUFFLE), columns, delta=True),
    ]


def measure(codec_list: Sequence[Codec], pictures: Sequence[Picture], rounds: int) -> list[dict[str, Any]]:
    """One row per codec. Raises AssertionError if a codec is not lossless."""
    stored, encode_s = {}, {}
    for codec in codec_list:
        start = time.perf_counter()
        stored[codec.name] = [codec.encode(picture) for picture in pictures]
        encode_s[codec.name] = time.perf_counter() - start
        for data, picture in zip(stored[codec.name], pictures, strict=True):
            np.testing.assert_array_equal(codec.decode(data, picture.shape), picture, codec.name)
    best = dict.fromkeys(stored, float("inf"))
    for _ in range(rounds):
        for codec in codec_list:
            start = time.perf_counter()
            for data, picture in zip(stored[codec.name], pictures, strict=True):
                codec.decode(data, picture.shape)
            best[codec.name] = min(best[codec.name], time.perf_counter() - start)
    raw, png = sum(picture.nbytes for picture in pictures), sum(map(len, stored["PNG"]))
    samples = len(pictures) / (2 * VIEWS)
    return [
        {
            "codec": codec.name,
            "Zarr": "yes" if codec.zarr else "",
            "size / raw": sum(map(len, stored[codec.name])) / raw,
            "size / PNG": sum(map(len, stored[codec.name])) / png,
            "samples per second": samples / best[codec.name],
            "times PNG": best["PNG"] / best[codec.name],
            "views encoded per second": len(pictures) / encode_s[codec.name],
        }
        for codec in codec_list
    ]


def draw(rows: Sequence[Mapping[str, Any]], side: int, to: Path) -> None:
    """Plot size against speed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(sorted(rows, key=lambda row: float(row["size / PNG"])), start=1):
        colour = "tab:red" if row["codec"] == CHOSEN else "tab:blue" if row["Zarr"] else "tab:grey"
        place = (row["size / PNG"], row["samples per second"])
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
    axes.axvline(1.25, linestyle=":", color="black", linewidth=0.8)
    axes.set(
        xlabel="bytes on disk, PNG = 1",
        ylabel=f"samples decoded per second ({VIEWS} views of {side} px, RGB and normals)",
        yscale="log",
        title="Upper left is better; red: the default codec, dotted line: 1.25 times PNG",
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
