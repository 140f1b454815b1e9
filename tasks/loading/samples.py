"""Random views of heads as tensors, for training on a published dataset.

The content of a sample is a function of (seed, epoch, index), independent of workers, ranks, batch size and earlier
reads. `HeadViews` returns samples by index, `HeadStream` yields the batches of an epoch in random order, and
`HeadLoader` (`tasks.loading.loader`) runs a stream in worker processes and saves its position.

A sample has the arrays that `ViewParams` selects, as `tasks.loading.reader` lists them, and in addition:

    background [3] f32       colour to composite RGB on, in [-1, 1]; `as_floats` applies it
    index [] i64             number of the sample in the epoch
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.loading.batch_memory import BatchLayout, PackedBatch, SlotBatch, SlotRing, plain_fields
from spinmeround.tasks.loading.params import ViewParams
from spinmeround.tasks.loading.reader import SampleReader
from spinmeround.tasks.loading.view_draws import draw_rng, draw_views, facing_views

ORDER, VIEWS, COLOURS = range(3)
"""Purposes of random numbers: the order of an epoch, the views of a sample, the background of a sample."""


class HeadViews(Dataset[dict[str, Tensor]]):
    """Samples by index: sample i shows the head `subjects[i % len(subjects)]`.

    Raises ConfigError if the dataset has fewer views than a sample, and ValueError if a sample needs a view of a face
    and the dataset has none.
    """

    def __init__(self, dataset: HeadDataset, subjects: Sequence[int], params: ViewParams | None = None) -> None:
        self.dataset, self.subjects, self.params = dataset, tuple(subjects), params or ViewParams()
        if not self.subjects:
            raise ConfigError("loader: expected at least one head, got none; choose another split or more heads")
        if max(self.params.views, self.params.conditioning_views) > dataset.views:
            raise ConfigError(f"loader: views: expected at most the dataset's {dataset.views}, got {self.params.views}")
        self.reader = SampleReader(
            dataset,
            self.params.arrays,
            cameras=self.params.cameras,
            identity=self.params.identity,
            dtype=self.params.dtype,
        )
        self._facing: dict[int, Int64[np.ndarray, " facing"]] = {}
        self._facing_of(self.subjects[0])
        self._epoch = _shared_integers(1)

    def __len__(self) -> int:
        return len(self.subjects) * self.params.samples_per_head

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the samples returned from now on, in persistent workers too."""
        self._epoch.fill_(epoch)

    @cached_property
    def layout(self) -> BatchLayout:
        """Memory layout of a batch of these samples."""
        background = {"background": ((3,), "f4")} if self.params.background else {}
        fields = plain_fields({**background, "index": ((), "i8")})
        return BatchLayout(self.reader.fields(self.params.views) | fields)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        block = self.dataset.memory.empty((self.layout.size(1),), np.dtype(np.uint8))
        self.fill(self.layout.arrays(block, 1), 0, int(self._epoch[0]), index)
        batch = PackedBatch(self.layout, 1, torch.from_numpy(block)).tensors()
        return {name: tensor[0] for name, tensor in batch.items()}

    def fill(self, out: Mapping[str, np.ndarray], row: int, epoch: int, index: int) -> None:
        """Write sample `index` of an epoch into row `row` of the arrays of a batch."""
        rng = draw_rng(self.params.seed, epoch, index, VIEWS)
        subject = self.subjects[index % len(self.subjects)]
        views = draw_views(self.params.views, self._facing_of(subject), np.arange(self.dataset.views), rng)
        self.reader.fill(out, row, subject, views)
        if self.params.background == "random":
            out["background"][row] = draw_rng(self.params.seed, epoch, index, COLOURS).uniform(-1.0, 1.0, 3)
        elif self.params.background:
            out["background"][row] = self.params.background
        out["index"][row] = index

    def _facing_of(self, subject: int) -> Int64[np.ndarray, " facing"]:
        """The views of a head that show part of its face; none if samples need no such view."""
        if subject not in self._facing:
            azimuth = self.dataset.cameras(subject)["azimuth_deg"]
            self._facing[subject] = facing_views(azimuth) if self.params.conditioning_views else np.arange(0)
        return self._facing[subject]


class HeadStream(IterableDataset[dict[str, Tensor]]):
    """The batches of an epoch in random order, for one of `world` ranks. Use it with `batch_size=None`.

    Ranks see disjoint samples, together all of them. With `drop_last` all ranks see equally many, in full batches.
    Batch k comes from worker k modulo the number of workers, the order in which DataLoader collects batches, so the
    sequence is independent of that number. Iteration starts at `position` (epoch, batch).
    """

    def __init__(self, views: HeadViews, batch: int, *, rank: int = 0, world: int = 1, drop_last: bool = False) -> None:
        if batch < 1 or not 0 <= rank < world:
            raise ConfigError(f"loader: expected batch >= 1 and 0 <= rank < world, got {batch}, {rank}, {world}")
        self.views, self.batch, self.rank, self.world, self.drop_last = views, batch, rank, world, drop_last
        self.ring: SlotRing | None = None
        self._position = _shared_integers(2)
        if len(self) == 0:
            raise ConfigError(f"loader: expected a batch for each rank, got {len(views)} samples, {batch} x {world}")

    @property
    def position(self) -> tuple[int, int]:
        """Epoch, and the batch of it at which iteration starts."""
        epoch, batch = self._position.tolist()
        return epoch, batch

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        self._position.copy_(torch.tensor(position))

    def __len__(self) -> int:
        samples = len(self.views)
        if self.drop_last:
            return samples // self.world // self.batch
        return -(-len(range(self.rank, samples, self.world)) // self.batch)

    def indices(self, epoch: int) -> Int64[np.ndarray, " sample"]:
        """The samples of this rank in an epoch, in order."""
        order = draw_rng(self.views.params.seed, epoch, 0, ORDER).permutation(len(self.views))
        return order[self.rank :: self.world][: len(self) * self.batch]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (batch.tensors() for batch in self.packed() if isinstance(batch, PackedBatch))

    def packed(self) -> Iterator[PackedBatch | SlotBatch]:
        """The batches that this process makes, each in one block of memory."""
        epoch, first = self.position
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            self.views.dataset.threads = 1
        indices = self.indices(epoch)
        for k in range(first + number, len(self), workers):
            slot = self.ring.take(number) if self.ring is not None and worker else None
            yield self._batch(epoch, indices[k * self.batch : (k + 1) * self.batch].tolist(), slot)

    def _batch(self, epoch: int, indices: Sequence[int], slot: int | None) -> PackedBatch | SlotBatch:
        """Read the batch of these samples, into a slot of the ring if one is given."""
        layout, samples = self.views.layout, len(indices)
        size = layout.size(samples)
        if self.ring is not None and slot is not None:
            block = self.ring.block(slot, size)
        else:
            block = self.views.dataset.memory.empty((size,), np.dtype(np.uint8))
        out = layout.arrays(block, samples)
        for row, index in enumerate(indices):
            self.views.fill(out, row, epoch, index)
        if self.ring is not None and slot is not None:
            return SlotBatch(self.ring.number, slot, samples)
        return PackedBatch(layout, samples, torch.from_numpy(block))


def _shared_integers(count: int) -> Tensor:
    """Zeros, int64, in memory that persistent workers share, so they see later changes."""
    zeros: Tensor = torch.zeros(count, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
    return zeros
