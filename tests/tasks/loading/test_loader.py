"""The loader's position, its workers' shared memory, and ranks that torch.distributed knows."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.loading.loader import HeadLoader
from spinmeround.tasks.loading.samples import ViewParams
from tests.tasks.loading.test_samples import same

PARAMS = ViewParams(arrays=("rgb", "mask", "latents"), views=3, given=1, seed=8)


def make(heads: Path, workers: int, **options: Any) -> HeadLoader:
    return HeadLoader(HeadDataset.open(heads), PARAMS, subjects=range(11), batch=2, workers=workers, **options)


def epochs(loader: HeadLoader, number: int) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor.clone() for name, tensor in batch.items()} for _ in range(number) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("consumed", [1, 5, 6, 9])
def test_resuming_gives_the_very_rest(heads: Path, workers: int, consumed: int) -> None:
    """Saved after any batch, loaded by a loader with another number of workers: nothing twice, nothing left out."""
    whole = epochs(make(heads, 0), 2)
    loader, seen = make(heads, workers), []
    while len(seen) < consumed:
        for batch in loader:
            seen.append({name: tensor.clone() for name, tensor in batch.items()})
            if len(seen) == consumed:
                state = json.loads(json.dumps(loader.state_dict()))
                break
    resumed = make(heads, 2 - workers)
    resumed.load_state_dict(state)
    rest: list[dict[str, torch.Tensor]] = []
    while len(seen) + len(rest) < len(whole):
        rest += [{name: tensor.clone() for name, tensor in batch.items()} for batch in resumed]
    assert all(same(one, other) for one, other in zip(seen + rest, whole, strict=True))


def test_a_loader_goes_on_where_its_last_iteration_ended(heads: Path) -> None:
    """Workers that live on take up the new position; batches that they had made ahead are not given."""
    whole, loader, seen = epochs(make(heads, 0), 3), make(heads, 2), []
    for stop in (1, 4, 2, 100, 100, 100):
        for number, batch in enumerate(loader, start=1):
            seen.append({name: tensor.clone() for name, tensor in batch.items()})
            if number == stop:
                break
    assert all(same(one, other) for one, other in zip(seen, whole, strict=False))
    assert len(seen) >= len(whole)


def test_another_sequence_is_refused(heads: Path) -> None:
    """A position is of no use to a loader with another batch, seed or dataset: named, with both values."""
    state = make(heads, 0).state_dict()
    with pytest.raises(ConfigError, match="batch: the saved position is of a sequence with 2, this one has 3"):
        HeadLoader(HeadDataset.open(heads), PARAMS, subjects=range(11), batch=3).load_state_dict(state)
    with pytest.raises(ConfigError, match="dataset"):
        make(heads, 0).load_state_dict({**state, "dataset": "another"})


def test_batches_that_are_kept_stay_as_they_are(heads: Path) -> None:
    """More batches are kept than there are slots: later ones travel otherwise, and none is overwritten."""
    expected = epochs(make(heads, 0), 2)
    loader = make(heads, 2, prefetch=1)
    kept = [batch for _ in range(2) for batch in loader]
    assert all(same(one, other) for one, other in zip(kept, expected, strict=True))


def test_slots_are_free_again(heads: Path) -> None:
    """When no tensor is left, no slot is taken, also after an iteration that was broken off."""
    loader = make(heads, 2)
    for number, batch in enumerate(loader):
        part = batch["rgb"][0, :1]
        if number == 3:
            break
    ring = loader.stream.ring
    assert ring is not None
    del batch
    for batch in loader:
        del batch
    gc.collect()
    assert sum(ring._taken[slot] for slot in range(len(ring._taken))) == 1
    del part
    gc.collect()
    assert sum(ring._taken[slot] for slot in range(len(ring._taken))) == 0


def test_pinning_without_an_accelerator_changes_nothing(heads: Path) -> None:
    """Asked for pinned memory where there is nothing to pin for, the batches are the same."""
    expected = epochs(make(heads, 0), 1)
    for workers in (0, 2):
        found = epochs(make(heads, workers, pin_memory=True), 1)
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_ranks_come_from_torch_distributed(heads: Path, tmp_path: Path) -> None:
    """Rank and number of ranks are those of the running process group, unless they are given."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        assert make(heads, 0).stream.world == 1
        assert make(heads, 0, rank=1, world=3).stream.rank == 1
    finally:
        torch.distributed.destroy_process_group()


def test_the_split_is_read_by_default(heads: Path) -> None:
    """Without subjects, the heads of the split `train` and no other."""
    dataset = HeadDataset.open(heads)
    loader = HeadLoader(dataset, PARAMS, batch=1)
    assert {int(batch["subject"]) for batch in loader} == set(dataset.split("train"))
