"""The position of the loader, the shared memory of its workers, and the ranks of torch.distributed."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.loading.loader import HeadLoader
from spinmeround.tasks.loading.params import ViewParams
from tests.tasks.loading.test_samples import same

PARAMS = ViewParams(arrays=("rgb", "mask", "latents"), views=3, conditioning_views=1, seed=8)


def make(heads: Path, workers: int, **options: Any) -> HeadLoader:
    return HeadLoader(HeadDataset.open(heads), PARAMS, subjects=range(11), batch=2, workers=workers, **options)


def epochs(loader: HeadLoader, number: int) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor.clone() for name, tensor in batch.items()} for _ in range(number) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("consumed", [1, 5, 6, 9])
def test_resuming_yields_exactly_the_rest(heads: Path, workers: int, consumed: int) -> None:
    """Saved after any batch, loaded with another number of workers: no batch is repeated and none is missing."""
    expected = epochs(make(heads, 0), 2)
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
    while len(seen) + len(rest) < len(expected):
        rest += [{name: tensor.clone() for name, tensor in batch.items()} for batch in resumed]
    assert all(same(one, other) for one, other in zip(seen + rest, expected, strict=True))


def test_an_interrupted_iteration_is_continued(heads: Path) -> None:
    """Persistent workers take the new position; batches that they prefetched for the old one are dropped."""
    expected, loader, seen = epochs(make(heads, 0), 3), make(heads, 2), []
    for stop in (1, 4, 2, 100, 100, 100):
        for number, batch in enumerate(loader, start=1):
            seen.append({name: tensor.clone() for name, tensor in batch.items()})
            if number == stop:
                break
    assert all(same(one, other) for one, other in zip(seen, expected, strict=False))
    assert len(seen) >= len(expected)


def test_a_position_of_another_sequence_is_refused(heads: Path) -> None:
    """The error names what differs, with both values."""
    state = make(heads, 0).state_dict()
    with pytest.raises(ConfigError, match="batch: the saved position belongs to a sequence with 2, this loader has 3"):
        HeadLoader(HeadDataset.open(heads), PARAMS, subjects=range(11), batch=3).load_state_dict(state)
    with pytest.raises(ConfigError, match="dataset"):
        make(heads, 0).load_state_dict({**state, "dataset": "another"})


def test_a_position_with_older_names_is_loaded(heads: Path) -> None:
    """`delivered` and `conditioning_views` were both called `given`."""
    loader = make(heads, 0)
    next(iter(loader))
    state = loader.state_dict()
    params = {**state["params"], "given": state["params"]["conditioning_views"]}
    del params["conditioning_views"]
    older = {**state, "given": state["delivered"], "params": params}
    del older["delivered"]
    resumed = make(heads, 0)
    resumed.load_state_dict(older)
    assert resumed.state_dict() == state


def test_kept_batches_are_not_overwritten(heads: Path) -> None:
    """If the caller keeps more batches than slots exist, workers send the others in memory of their own."""
    expected = epochs(make(heads, 0), 2)
    loader = make(heads, 2, prefetch=1)
    kept = [batch for _ in range(2) for batch in loader]
    assert all(same(one, other) for one, other in zip(kept, expected, strict=True))


def test_slots_are_freed(heads: Path) -> None:
    """A slot is free once its last tensor is deleted, also after an interrupted iteration."""
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


def test_pinning_has_no_effect_without_an_accelerator(heads: Path) -> None:
    """The batches are the same, and torch does not warn."""
    expected = epochs(make(heads, 0), 1)
    for workers in (0, 2):
        found = epochs(make(heads, workers, pin_memory=True), 1)
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_ranks_come_from_torch_distributed(heads: Path, tmp_path: Path) -> None:
    """Rank and world size default to those of the process group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        assert make(heads, 0).stream.world == 1
        assert make(heads, 0, rank=1, world=3).stream.rank == 1
    finally:
        torch.distributed.destroy_process_group()


def test_the_split_is_read_by_default(heads: Path) -> None:
    """Without subjects, the loader reads exactly the heads of the split `train`."""
    dataset = HeadDataset.open(heads)
    loader = HeadLoader(dataset, PARAMS, batch=1)
    assert {int(batch["subject"]) for batch in loader} == set(dataset.split("train"))
