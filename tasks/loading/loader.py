"""A stream of batches from worker processes, with a position that is saved and restored exactly.

    loader = HeadLoader(HeadDataset.open(path), split="train", batch=4, workers=2)
    for batch in loader: ...                                # one epoch
    state = loader.state_dict()                             # JSON values for the checkpoint

The position counts the batches that the caller has received, not those that workers have prefetched. A loader that
loads the state yields exactly the remaining batches, with any number of workers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.loading.batch_memory import PackedBatch, SlotBatch, SlotRing
from spinmeround.tasks.loading.params import ViewParams
from spinmeround.tasks.loading.samples import HeadStream, HeadViews


class _Packed(IterableDataset[Any]):
    """A stream whose batches stay in one block until they reach the parent."""

    def __init__(self, stream: HeadStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[PackedBatch | SlotBatch]:
        return self.stream.packed()


class HeadLoader:
    """Batches of random views. Each iteration is one epoch; an iteration that was stopped early is continued.

    Reads `subjects`, or by default all heads of the `split`. `rank` and `world` default to those of torch.distributed
    if it is initialised. `workers` are forked for local datasets (batches then use shared memory, see
    `tasks.loading.batch_memory`) and spawned for remote datasets, whose client does not survive a fork. `pin_memory`
    has no effect without an accelerator.
    """

    def __init__(
        self,
        dataset: HeadDataset,
        params: ViewParams | None = None,
        *,
        split: str = "train",
        subjects: Sequence[int] | None = None,
        batch: int = 4,
        workers: int = 0,
        rank: int | None = None,
        world: int | None = None,
        drop_last: bool = False,
        pin_memory: bool = False,
        prefetch: int = 2,
    ) -> None:
        views = HeadViews(dataset, dataset.split(split) if subjects is None else subjects, params)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = rank if rank is not None else torch.distributed.get_rank() if distributed else 0
        world = world if world is not None else torch.distributed.get_world_size() if distributed else 1
        self.stream = HeadStream(views, batch, rank=rank, world=world, drop_last=drop_last)
        self.epoch, self.delivered = 0, 0
        forked = workers > 0 and not dataset.remote
        if forked:
            self.stream.ring = SlotRing(views.layout, batch, workers, prefetch + 2)
        options: dict[str, Any] = {}
        if workers:
            method = "fork" if forked else "spawn"
            options = {"prefetch_factor": prefetch, "persistent_workers": True, "multiprocessing_context": method}
        pin = pin_memory and torch.accelerator.is_available()
        self._loader: DataLoader[Any] = DataLoader(
            _Packed(self.stream), batch_size=None, num_workers=workers, pin_memory=pin, **options
        )

    def __len__(self) -> int:
        """Batches per epoch, on this rank."""
        return len(self.stream)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self.stream.position = (self.epoch, self.delivered)
        for batch in self._loader:
            self._count()
            yield batch.tensors()

    def _count(self) -> None:
        self.delivered += 1
        if self.delivered == len(self.stream):
            self.epoch, self.delivered = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The position and everything else that the sequence depends on, as JSON values."""
        return {"epoch": self.epoch, "delivered": self.delivered, **self._sequence()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved position. Raises ConfigError if it belongs to a different sequence."""
        state = _with_current_names(state)
        for name, value in self._sequence().items():
            if state.get(name) != value:
                raise ConfigError(
                    f"loader: {name}: the saved position belongs to a sequence with {state.get(name)!r}, this loader "
                    f"has {value!r}; create the loader with the same arguments"
                )
        self.epoch, self.delivered = int(state["epoch"]), int(state["delivered"])

    def _sequence(self) -> dict[str, Any]:
        stream, views = self.stream, self.stream.views
        return {
            "dataset": views.dataset.digest,
            "params": views.params.model_dump(mode="json", exclude={"dtype"}),  # the same samples in either type
            "samples": len(views),
            "batch": stream.batch,
            "rank": stream.rank,
            "world": stream.world,
            "drop_last": stream.drop_last,
        }


def _with_current_names(state: dict[str, Any]) -> dict[str, Any]:
    """The state, in which `given` is renamed: an older name of `delivered` and of `params.conditioning_views`."""
    params = state.get("params")
    if isinstance(params, dict):
        state = {**state, "params": _renamed(params, "conditioning_views")}
    return _renamed(state, "delivered")


def _renamed(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {name if key == "given" else key: value for key, value in values.items()}
