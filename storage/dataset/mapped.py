"""Shards mapped into memory: the operating system reads what is used and drops it again when memory is short.

Only for arrays whose chunks are stored as they are, such as latents, in a local dataset. Checksums are not verified at
each access, so check the content of the dataset before (`check_content`). A file that is truncated meanwhile ends the
process.
"""

import mmap
from itertools import pairwise

import numpy as np

from spinmeround.storage.dataset.reader import PER_VIEW, HeadDataset


def map_views(dataset: HeadDataset, subject: int, name: str) -> np.ndarray | None:
    """All views of one head, read-only [view, *shape]; None for an array that cannot be mapped.

    Raises DatasetError if the shard is missing or its index damaged.
    """
    layout = dataset.layout(name)
    chunk = layout.chunk
    if dataset.remote or chunk.compressor or chunk.delta or chunk.stored_shape != chunk.shape:
        return None
    file = f"{name}/{PER_VIEW[name].file(subject, dataset.group_of(name).separator)}"
    with (
        dataset.damage(subject, name),
        dataset.files.shard(file, layout.index_size, at_end=layout.index_at_end) as shard,
    ):
        offsets = [offset for offset, _ in layout.spans(shard, range(layout.chunks))]
        steps = {second - first for first, second in pairwise(offsets)} or {chunk.size}
        if len(steps) > 1 or min(steps) < chunk.size:
            return None
        memory = mmap.mmap(shard.descriptor, 0, prot=mmap.PROT_READ)
    memory.madvise(mmap.MADV_RANDOM)
    shape = (layout.chunks, *chunk.shape)
    inner = np.empty(chunk.shape, chunk.dtype).strides
    return np.ndarray(shape, chunk.dtype, buffer=memory, offset=offsets[0], strides=(steps.pop(), *inner))
