"""Averages of the weights by a power function of the step."""

import numpy as np
import pytest
import torch
from torch import nn

from spinmeround.tasks.training.optimisation.averages import PowerAverages, exponent
from spinmeround.tasks.training.params.averages import AverageParams


def test_known_exponents() -> None:
    """EDM2 names 6.94 for a length of 10%, and 16.97 for 5%; a plain mean has the exponent 0 and 1/sqrt(12)."""
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(12**-0.5) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_the_average_weighs_steps_by_a_power(length: float) -> None:
    """After 400 steps, against the definition: the weight of step s is proportional to s^(g + 1) - (s - 1)^(g + 1),
    whose standard deviation is `length` of the steps."""
    steps, weight = 400, nn.Parameter(torch.zeros(400, dtype=torch.float64))
    averages = PowerAverages({"weight": weight}, [length])
    for step in range(steps):
        with torch.no_grad():
            weight.copy_(torch.eye(steps, dtype=torch.float64)[step])
        averages.update()
    shares = averages.of(length)["weight"].numpy()
    power = np.arange(steps + 1) ** (exponent(length) + 1)
    np.testing.assert_allclose(shares, np.diff(power) / power[-1], atol=1e-12)
    at = np.arange(1, steps + 1)
    mean = (shares * at).sum()
    assert np.sqrt((shares * (at - mean) ** 2).sum()) / steps == pytest.approx(length, rel=0.01)


def test_applied_averages_are_taken_back() -> None:
    """Inside the block the weights are the average; after it, also after an error, they are what they were."""
    weight = nn.Parameter(torch.tensor([1.0]))
    averages = PowerAverages({"weight": weight}, [0.1])
    averages.update()
    with torch.no_grad():
        weight.fill_(5.0)
    seen = []
    with pytest.raises(ZeroDivisionError), averages.applied(0.1):
        seen.append(weight.item() // 0)
    with averages.applied(0.1):
        seen.append(weight.item())
    assert (seen, weight.item()) == ([1.0], 5.0)


def test_a_length_that_is_not_tracked_is_refused() -> None:
    """The result's average must be one of those that are kept."""
    with pytest.raises(ValueError, match=r"length: expected one of average\.tracked \(0\.05, 0\.1\), got 0\.2"):
        AverageParams(length=0.2, tracked=(0.05, 0.1))
    with pytest.raises(ValueError, match=r"tracked: expected lengths above 0 and up to 0\.28, got 0\.5"):
        AverageParams(tracked=(0.05, 0.5))
    with pytest.raises(ValueError, match=r"tracked: expected two lengths or more for snapshots, got \(0\.05,\)"):
        AverageParams(snapshots=4)


def test_the_distance_of_an_average_is_relative_to_the_weights() -> None:
    """An average (3, 5) of weights that have moved on to (12, 5): 9 of 13."""
    weights = {"a": nn.Parameter(torch.tensor([3.0])), "b": nn.Parameter(torch.tensor([[5.0]]))}
    averages = PowerAverages(weights, [0.05])
    assert averages.distance(0.05) == 0
    weights["a"].data.fill_(12.0)
    assert averages.distance(0.05) == pytest.approx(9 / 13, rel=1e-6)
