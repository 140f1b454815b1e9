"""Random views of one head as tensors, for training on a published dataset.

What a sample holds is a function of (seed, epoch, index) alone: not of the number of workers, of ranks, of the
batch, or of what was read before. `HeadViews` gives samples by their index, `HeadStream` batches of them in
each epoch's random order, and `HeadLoader` (`tasks.loader_workers`) runs a stream in workers and knows its position.

A sample, or with a leading batch axis a batch, has these tensors, as far as `ViewParams` asks for them:

    rgb, normals [P, H, W, 3] u8, mask [P, H, W] u8        as on disk, see `storage.dataset`; floats by `as_floats`
    latents [P, 2 C, h, w] f16                             image latents, then normal latents
    cam2world [P, 4, 4], intrinsics [P, 3, 3] f32          for the rays
    identity [512] f32, background [3] f32                 background: the colour to put RGB on, in [-1, 1]
    views [P], subject, index i64
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float16, Int64
from pydantic import Field as Setting
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.loading.batch_memory import BatchLayout, Field, PackedBatch, SlotBatch, SlotRing, stack_fields
from spinmeround.tasks.loading.view_draws import draw_views, facing_views

ORDER, VIEWS, COLOURS = range(3)
"""Purposes of random numbers: an epoch's order, a sample's views, a sample's background."""

Colour = tuple[float, float, float]


class ViewParams(FrozenModel):
    """What a sample holds."""

    arrays: tuple[Literal["rgb", "normals", "mask", "latents"], ...] = ("rgb", "normals", "mask")
    views: int = Setting(8, ge=1, description="Views of a head in a sample, all different")
    given: int = Setting(0, ge=0, description="The first views of a sample that condition; the very first shows a face")
    cameras: bool = Setting(True, description="The views' cameras too")
    identity: bool = Setting(True, description="The head's identity embedding too")
    background: Colour | Literal["random"] | None = Setting(None, description="Colour to put RGB on, in [-1, 1]")
    seed: int = Setting(0, ge=0)
    samples_per_head: int = Setting(1, ge=1, description="Samples of each head in an epoch")


def sample_rng(seed: int, epoch: int, index: int, purpose: int) -> np.random.Generator:
    """The random numbers of one sample, or with index 0 and ORDER of one epoch, for one purpose."""
    return np.random.default_rng([seed, epoch, index, purpose])


def read_latents(
    dataset: HeadDataset, subject: int, views: Sequence[int], out: np.ndarray | None = None
) -> Float16[np.ndarray, "view channel h w"]:
    """Image latents, then normal latents, of some views of one head; into `out` where it is given."""
    chunk = dataset.layout("latents/rgb").chunk
    if out is None:
        out = dataset.memory.empty((len(views), 2 * chunk.shape[0], *chunk.shape[1:]), chunk.dtype)
    halves = {"latents/rgb": out[:, : chunk.shape[0]], "latents/normals": out[:, chunk.shape[0] :]}
    dataset.read_into(subject, views, halves)
    return out


class HeadViews(Dataset[dict[str, Tensor]]):
    """Samples by index: sample i is of the head `subjects[i % len(subjects)]`.

    Raises ConfigError where the dataset has fewer views than a sample wants, or no view of a face to give.
    """

    def __init__(self, dataset: HeadDataset, subjects: Sequence[int], params: ViewParams | None = None) -> None:
        self.dataset, self.subjects, self.params = dataset, tuple(subjects), params or ViewParams()
        if not self.subjects:
            raise ConfigError("loader: expected at least one head, got none; choose another split or more heads")
        if max(self.params.views, self.params.given) > dataset.views:
            raise ConfigError(f"loader: views: expected at most the dataset's {dataset.views}, got {self.params.views}")
        azimuth = dataset.cameras(self.subjects[0])["azimuth_deg"]
        self._facing = facing_views(azimuth) if self.params.given else np.arange(0)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on

    def __len__(self) -> int:
        return len(self.subjects) * self.params.samples_per_head

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose samples are given from now on, by living workers too."""
        self._epoch.fill_(epoch)

    @cached_property
    def layout(self) -> BatchLayout:
        """How a batch of these samples lies in memory."""
        views, params = self.params.views, self.params
        fields: dict[str, Field] = {
            name: self._latents_field() if name == "latents" else self._picture_field(name) for name in params.arrays
        }
        cameras = {"cam2world": ((views, 4, 4), "f4"), "intrinsics": ((views, 3, 3), "f4")}
        fields |= stack_fields(cameras if params.cameras else {})
        fields |= stack_fields({"identity": ((512,), "f4")} if params.identity else {})
        fields |= stack_fields({"background": ((3,), "f4")} if params.background else {})
        numbers = {"views": ((views,), "i8"), "subject": ((), "i8"), "index": ((), "i8")}
        return BatchLayout(fields | stack_fields(numbers))

    def _picture_field(self, name: str) -> Field:
        chunk = self.dataset.layout(name).chunk
        back = (0, *(int(axis) + 1 for axis in np.argsort(chunk.order)))
        return Field(shape=(self.params.views, *chunk.stored_shape), dtype=chunk.dtype, axes=back)

    def _latents_field(self) -> Field:
        chunk = self.dataset.layout("latents/rgb").chunk
        if chunk.stored_shape != chunk.shape:
            raise DatasetError(f"{self.dataset.files.root}: latents: expected plain order, found axes {chunk.order}")
        return Field(shape=(self.params.views, 2 * chunk.shape[0], *chunk.shape[1:]), dtype=chunk.dtype)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        block = self.dataset.memory.empty((self.layout.size(1),), np.dtype(np.uint8))
        self.fill(self.layout.arrays(block, 1), 0, int(self._epoch), index)
        batch = PackedBatch(self.layout, 1, torch.from_numpy(block)).tensors()
        return {name: tensor[0] for name, tensor in batch.items()}

    def fill(self, arrays: Mapping[str, np.ndarray], row: int, epoch: int, index: int) -> None:
        """Write sample `index` of an epoch into row `row` of a batch's arrays."""
        params, subject = self.params, self.subjects[index % len(self.subjects)]
        rng = sample_rng(params.seed, epoch, index, VIEWS)
        views = draw_views(params.views, self._facing, np.arange(self.dataset.views), rng)
        chosen = views.tolist()
        pictures: dict[str, np.ndarray] = {name: arrays[name][row] for name in params.arrays if name != "latents"}
        if pictures:
            self.dataset.read_into(subject, chosen, pictures)
        if "latents" in params.arrays:
            read_latents(self.dataset, subject, chosen, arrays["latents"][row])
        if params.cameras:
            cameras = self.dataset.cameras(subject)
            arrays["cam2world"][row], arrays["intrinsics"][row] = (
                cameras["cam2world"][views],
                cameras["intrinsics"][views],
            )
        if params.identity:
            arrays["identity"][row] = self.dataset.identities[subject]
        if params.background:
            arrays["background"][row] = self._background(epoch, index)
        arrays["views"][row], arrays["subject"][row], arrays["index"][row] = views, subject, index

    def _background(self, epoch: int, index: int) -> np.ndarray | Colour:
        if self.params.background == "random":
            return sample_rng(self.params.seed, epoch, index, COLOURS).uniform(-1.0, 1.0, 3)
        assert isinstance(self.params.background, tuple)
        return self.params.background


class HeadStream(IterableDataset[dict[str, Tensor]]):
    """The batches of an epoch in its random order, for one of `world` ranks; to be used with `batch_size=None`.

    Ranks see different samples, and together all of them; with `drop_last` all ranks see equally many, in full
    batches. Batch k comes from worker k modulo their number, which is the order in which DataLoader asks them,
    so the sequence does not depend on that number. Iterating begins at the `position` (epoch, batch).
    """

    def __init__(self, views: HeadViews, batch: int, *, rank: int = 0, world: int = 1, drop_last: bool = False) -> None:
        if batch < 1 or not 0 <= rank < world:
            raise ConfigError(f"loader: expected batch >= 1 and 0 <= rank < world, got {batch}, {rank}, {world}")
        self.views, self.batch, self.rank, self.world, self.drop_last = views, batch, rank, world, drop_last
        self.ring: SlotRing | None = None
        self._position = torch.zeros(2, dtype=torch.int64).share_memory_()  # seen by workers that live on
        if len(self) == 0:
            raise ConfigError(f"loader: expected a batch for each rank, got {len(views)} samples, {batch} x {world}")

    @property
    def position(self) -> tuple[int, int]:
        """Epoch, and its batch with which iterating begins."""
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

    def indices(self, epoch: int) -> Int64[np.ndarray, " samples"]:
        """The samples of this rank in an epoch, in order."""
        order = sample_rng(self.views.params.seed, epoch, 0, ORDER).permutation(len(self.views))[
            self.rank :: self.world
        ]
        return order[: len(self) * self.batch]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (batch.tensors() for batch in self.packed() if isinstance(batch, PackedBatch))

    def packed(self) -> Iterator[PackedBatch | SlotBatch]:
        """The batches that this process makes, each in one piece of memory."""
        epoch, first = self.position
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            self.views.dataset.threads = 1
        indices = self.indices(epoch)
        for k in range(first + number, len(self), workers):
            yield self._batch(epoch, indices[k * self.batch : (k + 1) * self.batch].tolist(), number, bool(worker))

    def _batch(self, epoch: int, indices: Sequence[int], worker: int, in_worker: bool) -> PackedBatch | SlotBatch:
        layout, samples = self.views.layout, len(indices)
        size = layout.size(samples)
        slot = self.ring.take(worker) if self.ring is not None and in_worker else None
        if self.ring is not None and slot is not None:
            block = self.ring.block(slot, size)
        else:
            block = self.views.dataset.memory.empty((size,), np.dtype(np.uint8))
        arrays = layout.arrays(block, samples)
        for row, index in enumerate(indices):
            self.views.fill(arrays, row, epoch, index)
        if self.ring is not None and slot is not None:
            return SlotBatch(self.ring.number, slot, samples)
        return PackedBatch(layout, samples, torch.from_numpy(block))
