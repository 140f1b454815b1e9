"""Arrays with reused memory: fresh pages from the kernel cost as much as decoding into them.

A lent array is an ordinary numpy array. Its memory is reused once the last view of it is gone, including slices and
tensors made by `torch.from_numpy`.
"""

import ctypes
import math
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def lend(owner: Any, offset: int, size: int, give_back: Callable[..., Any], *arguments: Any) -> np.ndarray:
    """A view of `size` bytes of `owner` (an array or a memory map) from `offset`, as uint8.

    `give_back(*arguments)` is called when the last reference to the view is gone.
    """
    holder = (ctypes.c_ubyte * size).from_buffer(owner, offset)
    weakref.finalize(holder, give_back, *arguments).atexit = False
    return np.asarray(np.frombuffer(memoryview(holder), np.uint8))


class RecycledMemory:
    """Lends arrays, and keeps up to `keep_mb` MiB of returned memory for arrays of the same size."""

    def __init__(self, keep_mb: int = 256) -> None:
        self.keep = keep_mb * 2**20
        self._free: dict[int, deque[np.ndarray]] = {}
        self._kept = 0

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
        """An uninitialised array."""
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        try:
            block = self._free[size].pop()
            self._kept -= size
        except (KeyError, IndexError):
            block = np.empty(size, np.uint8)
        return lend(block, 0, size, self._take_back, block).view(dtype).reshape(shape)

    def _take_back(self, block: np.ndarray) -> None:
        if self._kept + block.nbytes <= self.keep:
            self._free.setdefault(block.nbytes, deque()).append(block)
            self._kept += block.nbytes
