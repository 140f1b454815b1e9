"""The share of a device's rate that a training uses."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.tasks.training.beginning.unets import random_unet
from spinmeround.tasks.training.observation import utilisation
from spinmeround.tasks.training.observation.utilisation import Utilisation, forward_operations, product_rate
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import GroupParams, MultiViewPhase

MakeTrainParams = Callable[..., TrainParams]


def test_operations_without_memory_are_those_of_a_step(train_params: MakeTrainParams) -> None:
    """The counter on a network with weights finds as many, and three times as many with the backward pass, if every
    input has a gradient; attention, computed again in the backward pass, has a half of its own more."""
    params = train_params().unet
    unet = random_unet("multi-view", params, seed=0)
    latents, labels = torch.randn(1, 4, 8, 2, 2, requires_grad=True), torch.zeros(1, 4)
    given = {"mask": torch.zeros(1, 4, 1, 2, 2), "rays": torch.randn(1, 4, 6, 2, 2)}
    prompt, counts = torch.randn(1, 8, 512, requires_grad=True), list[int]()
    for backward in (False, True):
        with FlopCounterMode(display=False) as counter:
            output = unet(latents, labels, encoder_hidden_states=prompt, **given)
            if backward:
                output.sum().backward()
        counts.append(counter.get_total_flops())
    expected = forward_operations("multi-view", params, 4, 8)
    assert counts[0] == expected
    assert counts[1] == pytest.approx(3 * expected, rel=0.02)


def test_the_papers_size() -> None:
    """A group of 8 views at the paper's size takes 7.7 TFLOP forward, and 7.0 more with 3D attention at 64 x 64; a
    picture takes Stable Diffusion's 0.8."""
    everywhere = UNetParams(multiview_factors=(1, 2, 4, 8))
    found = [forward_operations("multi-view", params, 8, 77) for params in (UNetParams(), everywhere)]
    assert found == pytest.approx([7.70e12, 14.7e12], rel=0.01)
    assert forward_operations("adapt", UNetParams(), 1, 77) == pytest.approx(0.803e12, rel=0.01)


def test_the_share(train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of four views and one of one, in two seconds, on two devices of a known rate. Nothing is counted or
    measured in the time of a step."""
    kinds = (GroupParams(conditioning=1, targets=3), GroupParams(conditioning=0, targets=1))
    params = train_params(multi_view=MultiViewPhase(steps=1, groups=kinds))
    monkeypatch.setattr(utilisation, "product_rate", lambda precision, device: 1e9)
    four, one = (forward_operations("multi-view", params.unet, views, 8) for views in (4, 1))
    made = Utilisation(params, torch.device("cpu"), 2)
    for name in ("product_rate", "forward_operations"):
        monkeypatch.delattr(utilisation, name)
    found = made.share({4: 2, 1: 1}, 2.0)
    assert found == pytest.approx(3 * (2 * four + one) / 2.0 / 2e9)


def test_the_rate_draws_no_random_numbers() -> None:
    """A measurement changes nothing that a training computes."""
    before = torch.random.get_rng_state()
    product_rate.cache_clear()
    assert product_rate("float32", torch.device("cpu")) > 0
    assert torch.equal(torch.random.get_rng_state(), before)
