"""Decoded chunks in another order of axes, as contiguous memory.

numpy and torch copy a transposed view one value at a time. With torch, `channel_shuffle` transposes matrices of bytes
in blocks, which is several times as fast, and every order of axes is a few transpositions.
"""

import math
import sys
from collections.abc import Sequence

import numpy as np


def reordered(stored: np.ndarray, order: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    """Arrays [n, *axes in `order`] as C-contiguous [n, *axes in `wanted`]; `stored` itself if nothing changes.

    `stored` is C-contiguous, and both orders name the axes after the first by number.
    """
    axes, sizes = list(order), dict(zip(order, stored.shape[1:], strict=True))
    if sys.modules.get("torch") is None:
        view = stored.transpose(0, *(1 + axes.index(axis) for axis in wanted))
        return np.ascontiguousarray(view)
    for position, axis in enumerate(wanted):
        split = axes.index(axis)
        if split != position:
            before, first, second = axes[:position], axes[position:split], axes[split:]
            rows, columns = (math.prod(sizes[each] for each in part) for part in (first, second))
            stored, axes = _transposed(stored.reshape(-1, rows, columns)), [*before, *second, *first]
    return stored.reshape(-1, *(sizes[axis] for axis in wanted))


def _transposed(matrices: np.ndarray) -> np.ndarray:
    """Matrices [n, rows, columns] as contiguous [n, columns, rows].

    A matrix is the channels of a picture of one pixel, whose groups are the rows.
    """
    import torch

    count, rows, columns = matrices.shape
    size = rows * columns
    if size == 0 or count == 0:
        return np.ascontiguousarray(matrices.swapaxes(1, 2))
    pixels = torch.from_numpy(matrices).as_strided((count, size, 1, 1), (size, 1, size, size))
    shuffled = torch.nn.functional.channel_shuffle(pixels, rows)
    return np.asarray(shuffled.view(count, columns, rows).numpy())
