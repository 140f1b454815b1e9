"""An average of any length from snapshots of two."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.training.optimisation.averages import PowerAverages, exponent
from spinmeround.tasks.training.optimisation.snapshots import (
    average_of_length,
    product,
    remove_later,
    snapshot_due,
    solve,
    write_snapshot,
)

STEPS = 2000


def trained(folder: Path, lengths: tuple[float, ...]) -> PowerAverages:
    """A weight that moves along a noisy curve, with its averages; snapshots of two lengths are written."""
    generator, weight = torch.Generator().manual_seed(0), nn.Parameter(torch.zeros(500))
    averages = PowerAverages({"unet.weight": weight}, lengths)
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            noise = torch.randn(500, generator=generator)
            weight.copy_(torch.linspace(0, 3, 500).add(step / 300).sin() + 0.3 * noise)
        averages.update()
        if snapshot_due(step, STEPS, 8):
            kept = {name: tensor for name, tensor in averages.named() if name.startswith(("0.05.", "0.1."))}
            write_snapshot(folder, step, kept, step)
    return averages


@pytest.mark.parametrize("length", [0.03, 0.05, 0.08, 0.15])
def test_any_length_follows_from_snapshots_of_two(tmp_path: Path, length: float) -> None:
    """Against the average that was kept along the training: within 3% of the weights' norm, or the 0.1% of float16 for
    a length that was kept; taking another length for it is 5% off or more."""
    kept = trained(tmp_path, (0.03, 0.05, 0.08, 0.1, 0.15))
    truth = kept.of(length)["unet.weight"]
    found = average_of_length(tmp_path, length)["unet.weight"]
    assert (found - truth).norm() <= (0.001 if length == 0.05 else 0.03) * truth.norm()
    others = [kept.of(other)["unet.weight"] for other in (0.03, 0.15) if other != length]
    assert min((other - truth).norm() for other in others) > 0.05 * truth.norm()


def test_inner_products_are_integrals() -> None:
    """Against a sum over steps; a stored average is itself with a factor of one."""
    t = np.arange(1, 100_001) / 100_000 * 7.0
    profiles = [(g + 1) * t**g / end ** (g + 1) * (t <= end) for end, g in ((7.0, 6.94), (5.0, 16.97))]
    expected = (profiles[0] * profiles[1]).sum() * (t[1] - t[0])
    found = product(*(np.array(value) for value in (7.0, 6.94, 5.0, 16.97)))
    assert found == pytest.approx(expected, rel=1e-3)
    exponents = np.array([exponent(0.05), exponent(0.1)])
    assert solve(np.array([9.0, 9.0]), exponents, 9.0, exponents[1]) == pytest.approx([0, 1], abs=1e-9)


def test_snapshots_are_spaced_equally_up_to_the_end() -> None:
    """Eight of a hundred steps; none if none is wanted; later ones are removed after a return."""
    assert [step for step in range(1, 101) if snapshot_due(step, 100, 8)] == [13, 25, 38, 50, 63, 75, 88, 100]
    assert not any(snapshot_due(step, 100, 0) for step in range(1, 101))


def test_later_snapshots_are_removed(tmp_path: Path) -> None:
    """Those after the step of a checkpoint; without any, there is nothing to make an average of."""
    for step in (10, 20, 30):
        write_snapshot(tmp_path, step, {"0.05.a": torch.zeros(1)}, step)
    remove_later(tmp_path, 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000010.safetensors",
        "step-000000020.safetensors",
    ]
    remove_later(tmp_path, 0)
    with pytest.raises(SpinMeRoundError, match=r"expected snapshots .*train with train\.average\.snapshots"):
        average_of_length(tmp_path, 0.1)
