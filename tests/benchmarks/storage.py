"""Speed of reading random views and latents of a head, compared with zarr-python and common formats; and of writing.

All formats hold the same pixels losslessly, and every reader ends in the same arrays: RGB and normals as contiguous
float32 [view, 3, height, width] in [-1, 1], which is checked on a few samples first. Each gets there its fastest way:
ours writes floats into the batch, in workers into shared memory; the others make planes of bytes (OpenCV splits a
decoded picture, tensorstore reads transposed), which the process that uses the batch converts into reused memory.
Ratios come from one run: in each round all readers run in turn, and the median of the rounds counts. "Cold" evicts a
reader's files from the page cache before it opens them and reads each head once.

The heads are variations of a few renderings of the procedural generator (see `_storage/heads.py`). The `--cache` folder
keeps everything, so only the first run is long.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from tests.benchmarks._storage.heads import WorkingSet, tree_size
from tests.benchmarks._storage.measure import (
    PICTURES,
    Evict,
    as_arrays,
    as_network_input,
    evict,
    rate,
    through_workers,
)
from tests.benchmarks._storage.pictures import FORMATS, Folder, Format, write_folder
from tests.benchmarks._storage.writing import writing_speed
from tests.benchmarks._storage.zarr_readers import (
    LATENTS,
    Memmap,
    Ours,
    OursPlain,
    OursThreads,
    Tensorstore,
    ZarrPython,
)

Table = list[dict[str, Any]]


def main(
    heads: Annotated[int, typer.Option(min=2, help="Number of heads in the working set.")] = 12,
    rendered: Annotated[
        int, typer.Option(min=1, help="Number of rendered heads; the others are variations of them.")
    ] = 2,
    views: Annotated[int, typer.Option(min=2, help="Views per head.")] = 125,
    wanted: Annotated[int, typer.Option(min=1, help="Random views per sample.")] = 8,
    pixels: Annotated[int, typer.Option(min=16, help="Side of the images, in pixels.")] = 256,
    latent: Annotated[int, typer.Option(min=2, help="Side of the latents.")] = 64,
    grain: Annotated[
        float, typer.Option(min=0.0, help="Standard deviation of the noise on the heads, in 8-bit steps.")
    ] = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="Samples per measurement.")] = 120,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each reader; the median counts.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of the DataLoader.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Samples per batch of the DataLoader.")] = 4,
    only: Annotated[
        str, typer.Option(help="Parts to measure, separated by commas: pictures, latents, writing.")
    ] = "pictures,latents,writing",
    evicting: Annotated[
        str,
        typer.Option(
            "--evict", help="How to empty the page cache: fadvise (a reader's files) or drop (everything, as root)."
        ),
    ] = "fadvise",
    write_pixels: Annotated[int, typer.Option(min=16, help="Side of the images when writing, in pixels.")] = 512,
    write_views: Annotated[int, typer.Option(min=1, help="Views rendered when writing.")] = 10,
    cache: Annotated[Path, typer.Option(help="Folder that keeps all formats.")] = Path("runs/bench-storage"),
) -> Mapping[str, Table]:
    """Compare the reading speed and the size of storage formats, and measure the cost of writing."""
    parts = set(only.split(","))
    if unknown := parts - {"pictures", "latents", "writing"}:
        raise ConfigError(f"--only: expected some of pictures, latents, writing, got {', '.join(sorted(unknown))}")
    if evicting not in ("fadvise", "drop"):
        raise ConfigError(f"--evict: expected fadvise or drop, got {evicting}")
    folder = cache / f"{heads}x{views}-{pixels}-{latent}-{grain:g}-{rendered}"
    working = WorkingSet(
        heads=heads, rendered=rendered, views=views, pixels=pixels, grain=grain, latent=latent, folder=folder
    )
    bench = Bench(working, wanted, samples, rounds, workers, batch, evicting)
    tables: dict[str, Table] = {}
    if parts & {"pictures", "latents"}:
        bench.dataset = working.prepare(workers).path
    if "pictures" in parts:
        tables |= bench.pictures()
    if "latents" in parts:
        tables |= bench.latents()
    if "writing" in parts:
        tables |= writing_speed(working, workers, write_pixels, write_views)
    return tables


class Bench:
    """Readers of one working set, measured in turn."""

    def __init__(
        self, working: WorkingSet, wanted: int, samples: int, rounds: int, workers: int, batch: int, how: Evict
    ) -> None:
        self.working, self.wanted, self.samples, self.rounds = working, wanted, samples, rounds
        self.workers, self.batch, self.how = workers, batch, how
        self.dataset = Path()

    def pictures(self) -> dict[str, Table]:
        """RGB and normals: readers of the dataset and the other formats."""
        readers: list[Any] = [
            kind(self.working, self.dataset, self.wanted, PICTURES)
            for kind in (Ours, OursThreads, OursPlain, ZarrPython, Tensorstore)
        ]
        formats: list[Format] = [kind(self.working, self.wanted) for kind in FORMATS]
        for kind in {each.kind for each in formats}:
            typer.echo(f"writing {kind}", err=True)
            write_folder(self.working, kind, self.workers)
        for each in formats:
            if not each.missing:
                typer.echo(f"writing {each.name}", err=True)
                each.ensure()
        readers += formats
        check_equal(readers, HeadDataset.open(self.dataset), PICTURES)
        png = tree_size(Folder(self.working, self.wanted).files())
        sizes = {each.name: tree_size(each.files()) / png for each in readers if not each.missing}
        title = f"8 random views, RGB and normals, of one head at {self.working.pixels} px".replace(
            "8", str(self.wanted)
        )
        found = self.measure(readers)
        peers = [each.name for each in formats]
        return {
            f"{title}: samples per second (cold: {self.how})": [
                {"reader": name, "size / PNG": sizes.get(name, ""), **row} for name, row in found.items()
            ],
            f"{title}: speed of our reader divided by that of": [
                {"reader": "zarr-python (target 6)", **ratios(found, ["zarr-python"])},
                {"reader": "the fastest other format (target 2.5)", **ratios(found, peers)},
            ],
        }

    def latents(self) -> dict[str, Table]:
        """Image and normal latents: readers of the dataset and a memory-mapped file."""
        readers: list[Any] = [
            kind(self.working, self.dataset, self.wanted, LATENTS)
            for kind in (Ours, OursPlain, ZarrPython, Tensorstore, Memmap)
        ]
        readers[-1].ensure()
        check_equal(readers, HeadDataset.open(self.dataset), LATENTS)
        side, found = self.working.latent, self.measure(readers)
        title = f"{self.wanted} random views' latents, {side} x {side} x 8 f16, of one head"
        return {
            f"{title}: samples per second (cold: {self.how})": [{"reader": name, **row} for name, row in found.items()],
            f"{title}: speed of our reader divided by that of": [
                {"reader": "zarr-python (target 15 in one process)", **ratios(found, ["zarr-python"])},
                {"reader": "np.memmap (target 1 with workers)", **ratios(found, ["np.memmap"])},
            ],
        }

    def measure(self, readers: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """Samples per second of each reader by mode, or how to install a reader that is missing."""
        modes: dict[str, Callable[[Any], float]] = {
            "warm, 1 process": self.warm_alone,
            f"warm, {self.workers} workers": self.warm_workers,
            "cold, 1 process": self.cold_alone,
            f"cold, {self.workers} workers": self.cold_workers,
        }
        available = [reader for reader in readers if not reader.missing]
        found: dict[str, dict[str, Any]] = {
            reader.name: {"warm, 1 process": reader.missing or ""} for reader in readers
        }
        for mode, measured in modes.items():
            rates: dict[str, list[float]] = {reader.name: [] for reader in available}
            for number in range(self.rounds):
                for reader in available:
                    rates[reader.name].append(measured(reader))
                typer.echo(f"{mode}, round {number + 1} of {self.rounds}", err=True)
            for name, each in rates.items():
                found[name][mode] = statistics.median(each)
        return found

    def warm_alone(self, reader: Any) -> float:
        return rate(
            map(as_network_input, reader.samples(1)), self.samples, 1, warm_up=min(self.samples, self.working.heads)
        )

    def warm_workers(self, reader: Any) -> float:
        warm_up = 4 * self.workers + self.working.heads // self.batch
        return rate(self._batches(reader, self.batch), self.samples, self.batch, warm_up)

    def cold_alone(self, reader: Any) -> float:
        evict(reader.files(), self.how)
        return rate(map(as_network_input, reader.samples(2)), self.working.heads - 1, 1, warm_up=1)

    def cold_workers(self, reader: Any) -> float:
        evict(reader.files(), self.how)
        return rate(self._batches(reader, 1), self.working.heads - 1, 1, warm_up=1)

    def _batches(self, reader: Any, batch: int) -> Iterator[Any]:
        if isinstance(reader, Ours):
            return reader.batches(self.workers, batch)
        reader.before_fork()
        return through_workers(reader.samples, self.workers, batch, getattr(reader, "start", "fork"))


def check_equal(readers: Sequence[Any], dataset: HeadDataset, arrays: Sequence[str]) -> None:
    """Raises ConfigError that names a reader whose pixels differ from the dataset's."""
    for reader in readers:
        if reader.missing:
            continue
        reader.before_fork()
        for found in islice(map(as_network_input, reader.samples(0)), 3):
            same(reader.name, as_arrays(found), dataset, arrays)
        if isinstance(reader, Ours):
            for found in islice(reader.batches(0, 1), 3):
                one = {name: array[0] for name, array in as_arrays(found).items()}
                same(reader.name, one, dataset, arrays)


def same(name: str, found: Mapping[str, Any], dataset: HeadDataset, arrays: Sequence[str]) -> None:
    expected = dataset.read_views(int(found["subject"]), [int(view) for view in found["views"]], arrays)
    if "latents" in found:
        expected = {"latents": np.concatenate([expected[array] for array in LATENTS], axis=1)}
    else:
        expected = {array: pixels.transpose(0, 3, 1, 2) / 127.5 - 1 for array, pixels in expected.items()}
    if wrong := [array for array, values in expected.items() if not close(found[array], values)]:
        raise ConfigError(f"{name}: {', '.join(wrong)} differ from the dataset; delete the cache folder")


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=2e-7)


def ratios(found: Mapping[str, Mapping[str, Any]], others: Sequence[str]) -> dict[str, float]:
    """Speed of our reader divided by the fastest of the others, by mode."""
    speeds = {name: {mode: rate for mode, rate in found[name].items() if isinstance(rate, float)} for name in others}
    best = {mode: max((each[mode] for each in speeds.values() if mode in each), default=None) for mode in found["ours"]}
    return {mode: found["ours"][mode] / rate for mode, rate in best.items() if rate}
