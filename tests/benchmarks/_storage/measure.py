"""Samples per second, with a warm or a cold page cache, in this process or with DataLoader workers."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from spinmeround.storage.codec import RecycledMemory, reordered
from spinmeround.tasks.loading.tensors import to_unit_range

PICTURES = ("rgb", "normals")
Sample = dict[str, Any]
Evict = Literal["fadvise", "drop"]


_memory = RecycledMemory(1024)


def planes(pictures: np.ndarray) -> np.ndarray:
    """The bytes [view, height, width, 3] as contiguous [view, 3, height, width], by OpenCV if it is installed."""
    try:
        import cv2
    except ImportError:
        return reordered(pictures, (0, 1, 2), (2, 0, 1))
    out = np.empty((len(pictures), 3, *pictures.shape[1:3]), np.uint8)
    for picture, room in zip(pictures, out, strict=True):
        cv2.split(picture, list(room))
    return out


def as_network_input(sample: Mapping[str, Any]) -> Sample:
    """RGB and normals of a sample or batch as float32 [..., 3, height, width] in [-1, 1], in reused memory.

    The conversion of all readers that have bytes, in planes, at the end. Latents are left as they are.
    """
    found = dict(sample)
    for name in PICTURES:
        if name in found and found[name].dtype in (np.uint8, torch.uint8):
            data = torch.as_tensor(found[name])
            out = torch.from_numpy(_memory.empty(tuple(data.shape), np.dtype(np.float32)))
            for row, room in zip(data.flatten(0, -4), out.flatten(0, -4), strict=True):
                to_unit_range(row, room)
            found[name] = out
    return found


class Samples(IterableDataset[Sample]):
    """An endless stream of samples; each worker has its own seed."""

    def __init__(self, stream: Callable[[int], Iterator[Sample]]) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        return self.stream(worker.id if worker else 0)


def through_workers(
    stream: Callable[[int], Iterator[Sample]], workers: int, batch: int, start: str = "fork"
) -> Iterator[Any]:
    """Batches of the standard DataLoader with its default collation.

    Workers send bytes, a quarter of the memory of floats, and this process converts the batch.
    """
    options: Any = {"batch_size": batch, "num_workers": workers, "multiprocessing_context": start}
    return map(as_network_input, DataLoader(Samples(stream), **options))


def rate(batches: Iterator[Any], samples: int, batch: int, warm_up: int) -> float:
    """Samples per second over `samples` samples, after `warm_up` batches that do not count."""
    for _ in range(warm_up):
        next(batches)
    number = max(1, samples // batch)
    began = time.perf_counter()
    for _ in range(number):
        next(batches)
    return number * batch / (time.perf_counter() - began)


def evict(paths: Sequence[Path], how: Evict) -> None:
    """Evict these files from the page cache by posix_fadvise, or drop the complete cache (as root)."""
    os.sync()
    if how == "drop":
        Path("/proc/sys/vm/drop_caches").write_text("1", encoding="utf-8")
        return
    for path in paths:
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file():
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)


def as_arrays(batch: Any) -> Any:
    """The tensors of a batch as arrays."""
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
