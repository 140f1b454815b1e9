"""Readers of the dataset: ours, zarr-python and tensorstore; and a memory-mapped array of its latents."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from torch.utils.data import DataLoader

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.loading.loader import HeadLoader
from spinmeround.tasks.loading.params import ViewParams
from spinmeround.tasks.loading.reader import SampleReader, read_latents
from spinmeround.tasks.loading.samples import HeadStream, HeadViews
from tests.benchmarks._storage.heads import WorkingSet, draws
from tests.benchmarks._storage.measure import PICTURES, Sample, planes

LATENTS = ("latents/rgb", "latents/normals")


class Reader:
    """A reader of some arrays of the published dataset."""

    name = ""

    def __init__(self, working: WorkingSet, dataset: Path, wanted: int, arrays: Sequence[str]) -> None:
        self.working, self.dataset, self.wanted, self.arrays = working, dataset, wanted, tuple(arrays)

    missing: str | None = None

    def files(self) -> list[Path]:
        return [self.dataset / name for name in self.arrays]

    def before_fork(self) -> None:
        """Prepare the parent process of the workers."""

    def samples(self, seed: int) -> Iterator[Sample]:
        """An endless stream of random views of random heads."""
        opened = self.open()
        for subject, views in draws(self.working.heads, self.working.views, self.wanted, seed):
            found = self.read(opened, subject, views)
            bytes_ = {name: planes(array) if name in PICTURES else array for name, array in found.items()}
            yield {"subject": subject, "views": np.asarray(views), **merged(bytes_)}

    def open(self) -> Any:
        raise NotImplementedError

    def read(self, opened: Any, subject: int, views: Sequence[int]) -> dict[str, np.ndarray]:
        raise NotImplementedError


def merged(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Both latents in one array, as a network expects them."""
    if set(found) != set(LATENTS):
        return found
    return {"latents": np.concatenate([found[name] for name in LATENTS], axis=1)}


class Ours(Reader):
    """`HeadDataset` in this process, `HeadLoader` with workers."""

    name, threads = "ours", 1

    @property
    def params(self) -> ViewParams:
        arrays: Any = ("latents",) if self.arrays == LATENTS else self.arrays
        return ViewParams(arrays=arrays, views=self.wanted, cameras=False, identity=False, dtype="float32")

    def samples(self, seed: int) -> Iterator[Sample]:
        dataset = HeadDataset.open(self.dataset, threads=self.threads)
        reader = SampleReader(dataset, self.params.arrays, cameras=False, identity=False, dtype="float32")
        for subject, views in draws(self.working.heads, self.working.views, self.wanted, seed):
            if self.arrays == LATENTS:
                found = {"latents": read_latents(dataset, subject, views)}
            else:
                batch = reader.read(np.array([subject]), np.array([views]))
                found = {name: batch[name][0] for name in self.arrays}
            yield {"subject": subject, "views": np.asarray(views), **found}

    def batches(self, workers: int, batch: int) -> Iterator[Any]:
        """Endless epochs of the loader."""
        subjects = range(self.working.heads)
        loader = HeadLoader(
            HeadDataset.open(self.dataset), self.params, subjects=subjects, batch=batch, workers=workers
        )
        while True:
            yield from loader


class OursThreads(Ours):
    name, threads = "ours, 2 threads", 2


class OursPlain(Ours):
    """Our stream in the standard DataLoader."""

    name = "ours, standard DataLoader"

    def batches(self, workers: int, batch: int) -> Iterator[Any]:
        views = HeadViews(HeadDataset.open(self.dataset), range(self.working.heads), self.params)
        stream = HeadStream(views, batch)
        options: Any = {"multiprocessing_context": "fork", "persistent_workers": True} if workers else {}
        loader = DataLoader(stream, batch_size=None, num_workers=workers, **options)
        epoch = 0
        while True:
            stream.position = (epoch, 0)
            yield from loader
            epoch += 1


class ZarrPython(Reader):
    """One view at a time by basic indexing, which is faster than `oindex` and than reading complete heads."""

    name = "zarr-python"

    def open(self) -> Any:
        return {name: zarr.open_array(self.dataset / name, mode="r") for name in self.arrays}

    def read(self, opened: Any, subject: int, views: Sequence[int]) -> dict[str, np.ndarray]:
        return {name: np.stack([array[subject, view] for view in views]) for name, array in opened.items()}


class Tensorstore(Reader):
    """By `oindex`, which returns planes at once; its workers are spawned, because it aborts forked processes."""

    name, start = "tensorstore", "spawn"

    @property
    def missing(self) -> str | None:  # type: ignore[override]
        try:
            self.open()
        except ImportError as error:
            return f"missing ({error.name}): pip install tensorstore"
        except ValueError as error:
            return f"cannot read it: {' '.join(str(error).split())[:90]}"
        return None

    def open(self) -> Any:
        import tensorstore

        no_cache = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
        places = {name: {"driver": "file", "path": str(self.dataset / name)} for name in self.arrays}
        return {
            name: tensorstore.open({"driver": "zarr3", "kvstore": place}, open=True, context=no_cache).result()
            for name, place in places.items()
        }

    def read(self, opened: Any, subject: int, views: Sequence[int]) -> dict[str, np.ndarray]:
        orders = {name: [0, 3, 1, 2] if name in PICTURES else [0, 1, 2, 3] for name in opened}
        futures = {
            name: array.oindex[subject, list(views)].transpose(orders[name]).read(order="C")
            for name, array in opened.items()
        }
        return {name: future.result() for name, future in futures.items()}

    def samples(self, seed: int) -> Iterator[Sample]:
        opened = self.open()
        for subject, views in draws(self.working.heads, self.working.views, self.wanted, seed):
            found = self.read(opened, subject, views)
            yield {"subject": subject, "views": np.asarray(views), **merged(found)}


class Memmap(Reader):
    """One memory-mapped file of all latents."""

    name = "np.memmap"

    def files(self) -> list[Path]:
        return [self.working.folder / "latents.raw"]

    def before_fork(self) -> None:
        self.ensure()

    def ensure(self) -> None:
        if not self.files()[0].exists():
            temporary = self.files()[0].with_suffix(".part")
            with temporary.open("wb") as file:
                for number in range(self.working.heads):
                    file.write(np.concatenate(self.working.latents(number), axis=1).tobytes())
            temporary.rename(self.files()[0])

    def open(self) -> Any:
        side = self.working.latent
        shape = (self.working.heads, self.working.views, 8, side, side)
        return np.memmap(self.files()[0], np.float16, "r", shape=shape)

    def read(self, opened: Any, subject: int, views: Sequence[int]) -> dict[str, np.ndarray]:
        return {"latents": np.asarray(opened[subject, views])}
