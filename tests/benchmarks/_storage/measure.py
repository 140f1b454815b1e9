"""Samples per second, with a warm or a cold page cache, in this process or with DataLoader workers."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

Sample = dict[str, Any]
Evict = Literal["fadvise", "drop"]


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
    """Batches of the standard DataLoader with its default collation."""
    return iter(DataLoader(Samples(stream), batch_size=batch, num_workers=workers, multiprocessing_context=start))


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
