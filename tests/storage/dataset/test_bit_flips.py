"""Random bit flips over a dataset with latents and over checkpoints: no wrong value is used in silence.

A flip is harmless if a reader returns the right values, and found if it raises an error of ours. A reader that returns
other values fails the test, as does a `verify` or a pass before a training that does not see the flip.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.dataset import HeadDataset, add_latents, check_content, publish, verify
from spinmeround.storage.errors import SpinMeRoundError
from tests.support.heads import write_all_latents, write_heads

ARRAYS = ("rgb", "normals", "mask", "identity_views", "latents/rgb", "latents/normals")
Values = dict[str, bytes]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, its latents and two checkpoints."""
    root = tmp_path_factory.mktemp("run")
    heads = write_heads(root / "heads", range(3))
    path = publish(root / "datasets", heads, {"split": {"validation": 0.3, "test": 0.3}}).path
    add_latents(path, write_all_latents(root / "latents", [head.id for head in heads]), "autoencoder")
    shutil.copytree(path, root / "run" / "dataset.zarr")
    checkpoints = Checkpoints(root / "run" / "training")
    for step in (1, 2):
        checkpoints.save(step, {"weights": torch.arange(400) * step, "losses": torch.ones(step)}, {"dataset": "abc"})
    return root / "run"


def _loaded(run: Path) -> Values:
    """Everything that a loader can read of the dataset."""
    dataset = HeadDataset.open(run / "dataset.zarr")
    found: Values = {"ids": repr((dataset.ids, dict(dataset.attributes), dataset.latents_attributes())).encode()}
    found["splits"] = repr([dataset.split(name) for name in ("train", "validation", "test")]).encode()
    found |= {"identities": dataset.identities.tobytes(), "seeds": dataset.seeds.tobytes()}
    for subject in range(len(dataset)):
        found |= {f"{name} {subject}": each.tobytes() for name, each in dataset.cameras(subject).items()}
        views = dataset.read_views(subject, range(dataset.views), ARRAYS)
        found |= {f"{name} {subject}": np.ascontiguousarray(each).tobytes() for name, each in views.items()}
    return found


def _resumed(run: Path) -> Values:
    """What a training resumes from."""
    found = Checkpoints(run / "training").latest()
    if found is None:
        return {}
    return {
        f"{found.step} state": repr(found.state()).encode(),
        **{f"{found.step} {name}": tensor.numpy().tobytes() for name, tensor in found.tensors().items()},
    }


def _flips(run: Path, count: int, seed: int) -> Iterator[tuple[Path, int]]:
    """Files and the bits to flip; each file is as likely as any other."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    rng = np.random.default_rng(seed)
    for _ in range(count):
        path = files[int(rng.integers(len(files)))]
        yield path, int(rng.integers(8 * path.stat().st_size))


def _silent(run: Path, path: Path, truth: Values, steps: dict[int, Values]) -> list[str]:
    """The readers that use a wrong value after a flip, or that miss it."""
    wrong = []
    if "training" in path.parts:
        try:
            found = _resumed(run)
        except SpinMeRoundError:
            return []
        return [] if found in ({}, *steps.values()) else ["training"]
    try:
        if _loaded(run) != truth:
            wrong.append("loader")
    except SpinMeRoundError:
        pass
    try:
        check_content(HeadDataset.open(run / "dataset.zarr"), threads=1)
        wrong.append("training")
    except SpinMeRoundError:
        pass
    if not verify(run / "dataset.zarr", threads=1):
        wrong.append("verify")
    return wrong


def _run_flips(run: Path, count: int, seed: int) -> list[str]:
    truth, steps = _loaded(run), {2: _resumed(run)}
    shutil.move(run / "training" / "step-000000002", run / "aside")
    steps[1] = _resumed(run)
    shutil.move(run / "aside", run / "training" / "step-000000002")
    found = []
    for path, bit in _flips(run, count, seed):
        data = path.read_bytes()
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.chmod(0o644)
        path.write_bytes(flipped)
        found += [f"{reader}: bit {bit} of {path.relative_to(run)}" for reader in _silent(run, path, truth, steps)]
        path.write_bytes(data)
    return found


def test_no_flipped_bit_is_used_in_silence(run: Path) -> None:
    """200 flips: every one is found by `verify` and before a training, and no reader returns another value."""
    assert _run_flips(run, 200, seed=0) == []


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_not_used_in_silence(run: Path) -> None:
    """The same for 1,000 other flips."""
    assert _run_flips(run, 1000, seed=1) == []
