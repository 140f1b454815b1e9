"""Checkpoints are complete or skipped, and the newest few are kept."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.errors import StorageUnavailable, StoreError
from tests.support.processes import kill_at_random


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((64, 1024), float(step)), "rng": torch.arange(step % 7 + 1, dtype=torch.uint8)}


def test_round_trip(tmp_path: Path) -> None:
    """Tensors and state are restored exactly, including their types."""
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    given = {"half": torch.randn(3, 4).half(), "bfloat": torch.randn(2).bfloat16(), "turned": torch.randn(3, 5).T}
    checkpoints.save(7, given, {"loss": [1.5, 0.1], "epoch": 2})
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 7
    assert found.state() == {"loss": [1.5, 0.1], "epoch": 2}
    for name, tensor in found.tensors().items():
        assert tensor.dtype == given[name].dtype
        assert torch.equal(tensor, given[name])


def test_tied_tensors_are_saved(tmp_path: Path) -> None:
    """Tensors that share memory are restored with the same values."""
    weight = torch.randn(4, 4)
    Checkpoints(tmp_path).save(1, {"encoder": weight, "decoder": weight, "row": weight[1]}, {})
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert torch.equal(found.tensors()["decoder"], weight)
    assert torch.equal(found.tensors()["row"], weight[1])


def test_keeps_the_newest(tmp_path: Path) -> None:
    """The `keep` checkpoints with the highest steps stay, whatever their names and times."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 100, 20):
        checkpoints.save(step, tensors(step), {})
    assert checkpoints.steps() == [20, 100]
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == []


def test_one_up_to_a_step(tmp_path: Path) -> None:
    """The newest intact one up to a step; where all are later, the oldest. Later ones are removed on request."""
    checkpoints = Checkpoints(tmp_path, keep=4)
    for step in (3, 5, 7, 9):
        checkpoints.save(step, tensors(step), {})
    _flip(tmp_path / "step-000000007")
    found = {before: checkpoints.latest(before=before) for before in (9, 8, 5, 2)}
    assert {before: each and each.step for before, each in found.items()} == {9: 9, 8: 5, 5: 5, 2: 3}
    checkpoints.remove_later(5)
    assert checkpoints.steps() == [3, 5]


def test_same_step_is_replaced(tmp_path: Path) -> None:
    """Saving a step again replaces its checkpoint."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tensors(1), {"run": 1})
    checkpoints.save(1, tensors(2), {"run": 2})
    found = checkpoints.latest()
    assert found is not None
    assert found.state() == {"run": 2}


def _truncate(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _flip(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_truncate, id="truncated"),
        pytest.param(_flip, id="flipped"),
        pytest.param(lambda folder: (folder / "manifest.json").unlink(), id="no manifest"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("{"), id="broken manifest"),
        pytest.param(lambda folder: (folder / "state.json").unlink(), id="no state"),
    ],
)
def test_damaged_checkpoints_are_skipped(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """If the newest checkpoint is damaged, `latest` returns the one before it."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tensors(1), {})
    newest = checkpoints.save(2, tensors(2), {})
    damage(newest.path)
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1


def test_kill_9_while_saving(tmp_path: Path) -> None:
    """After a kill at any moment, a complete checkpoint exists, and the next save removes leftovers."""
    torch.set_num_threads(1)
    checkpoints, chance = Checkpoints(tmp_path), random.Random(3)
    checkpoints.save(0, tensors(0), {"step": 0})
    for _ in range(15):
        found = checkpoints.latest()
        assert found is not None
        first = found.step + 1

        def save(first: int = first) -> None:
            for step in range(first, first + 1000):
                checkpoints.save(step, tensors(step), {"step": step})

        assert kill_at_random(save, chance, 0.08) == -signal.SIGKILL
        found = checkpoints.latest()
        assert found is not None
        assert found.state() == {"step": found.step}
        assert torch.equal(found.tensors()["weight"], tensors(found.step)["weight"])
    checkpoints.save(100_000, tensors(1), {})
    assert list((tmp_path / "tmp").iterdir()) == []


def test_full_disk(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    """A full disk is reported, and the last checkpoint stays."""
    checkpoints = Checkpoints(small_disk("size=1m") / "training")
    checkpoints.save(1, tensors(1), {})
    with pytest.raises(StorageUnavailable, match="disk is full"):
        checkpoints.save(2, {"weight": torch.zeros(2**20)}, {})
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1


def test_bad_arguments(tmp_path: Path) -> None:
    """State must be JSON, and at least one checkpoint must be kept."""
    with pytest.raises(StoreError, match="keep: expected at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(StoreError, match="JSON"):
        Checkpoints(tmp_path).save(1, tensors(1), {"loss": float("nan")})
    assert Checkpoints(tmp_path).latest() is None
