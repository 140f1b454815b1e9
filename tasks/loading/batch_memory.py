"""A batch in one block of memory: its arrays one after the other, written in place, sent as one object.

Forked workers write into slots, memory that they share with the parent, and send only the number of a slot. The parent
frees a slot when its last tensor is deleted. If no slot is free because the caller keeps many batches, the worker sends
the batch in memory of its own, as workers of DataLoader usually do.
"""

import math
import mmap
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinmeround.storage.codec import lend

_ALIGNMENT = 64
_rings: weakref.WeakValueDictionary[int, "SlotRing"] = weakref.WeakValueDictionary()
_numbers = count()


@dataclass(frozen=True, kw_only=True)
class Field:
    """One array of a sample: shape and type in memory, and the axes of the tensor; None: in memory order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...] | None = None

    def bytes(self, samples: int) -> int:
        size = samples * math.prod(self.shape) * self.dtype.itemsize
        return -(-size // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class BatchLayout:
    """The arrays of a batch, by name, in memory order."""

    fields: Mapping[str, Field]

    def size(self, samples: int) -> int:
        return sum(field.bytes(samples) for field in self.fields.values())

    def arrays(self, block: np.ndarray, samples: int) -> dict[str, np.ndarray]:
        """Writable arrays [samples, *field.shape] in a block of bytes."""
        arrays, start = {}, 0
        for name, field in self.fields.items():
            size = samples * math.prod(field.shape) * field.dtype.itemsize
            arrays[name] = block[start : start + size].view(field.dtype).reshape(samples, *field.shape)
            start += field.bytes(samples)
        return arrays


@dataclass(frozen=True)
class PackedBatch:
    """The memory of a batch with its layout."""

    layout: BatchLayout
    samples: int
    block: Tensor

    def pin_memory(self) -> "PackedBatch":
        """The batch in pinned memory; DataLoader calls this method by name."""
        return PackedBatch(self.layout, self.samples, self.block.pin_memory())

    def tensors(self) -> dict[str, Tensor]:
        """The arrays as tensors [samples, ...] that share the block's memory."""
        found, start = {}, 0
        for name, field in self.layout.fields.items():
            size = self.samples * math.prod(field.shape) * field.dtype.itemsize
            dtype = torch.from_numpy(np.empty(0, field.dtype)).dtype
            tensor = self.block[start : start + size].view(dtype).view(self.samples, *field.shape)
            found[name] = tensor.permute(0, *(axis + 1 for axis in field.axes)) if field.axes else tensor
            start += field.bytes(self.samples)
        return found


class SlotRing:
    """Memory for `slots` batches of each worker, shared with workers that are forked later."""

    def __init__(self, layout: BatchLayout, samples: int, workers: int, slots: int) -> None:
        self.layout, self.slots = layout, slots
        self._size = layout.size(samples)
        self._memory = mmap.mmap(-1, max(1, self._size * workers * slots))
        self._taken = mmap.mmap(-1, workers * slots)
        self.number = next(_numbers)
        _rings[self.number] = self

    def take(self, worker: int) -> int | None:
        """Called in a worker: a free slot of this worker, or None."""
        for slot in range(worker * self.slots, (worker + 1) * self.slots):
            if not self._taken[slot]:
                self._taken[slot] = 1
                return slot
        return None

    def block(self, slot: int, size: int) -> np.ndarray:
        """Called in the worker that took a slot: its writable memory."""
        return np.frombuffer(self._memory, np.uint8, size, slot * self._size)

    def received(self, slot: int, samples: int) -> PackedBatch:
        """Called in the parent: the batch in a slot. The slot is freed when its last tensor is deleted."""
        block = lend(self._memory, slot * self._size, self.layout.size(samples), self._free, slot)
        return PackedBatch(self.layout, samples, torch.from_numpy(block))

    def _free(self, slot: int) -> None:
        self._taken[slot] = 0


@dataclass(frozen=True)
class SlotBatch:
    """A batch in a slot, sent by a worker; unpickled as a `PackedBatch`."""

    ring: int
    slot: int
    samples: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self.ring, self.slot, self.samples)


def _receive(ring: int, slot: int, samples: int) -> PackedBatch:
    return _rings[ring].received(slot, samples)


def plain_fields(shapes: Mapping[str, tuple[Sequence[int], Any]]) -> dict[str, Field]:
    """Fields of arrays whose axes are not permuted, from (shape, type)."""
    return {name: Field(shape=tuple(shape), dtype=np.dtype(dtype)) for name, (shape, dtype) in shapes.items()}
