"""AdamW's groups of weights and its state in checkpoints."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from spinmeround.storage import extras
from spinmeround.storage.errors import MissingDependency
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.optimisation.optimiser import (
    OPTIMISER,
    Schedule,
    build_optimiser,
    named_state,
    restore_state,
    set_learning_rate,
    weight_groups,
)
from spinmeround.tasks.training.params import TrainParams

MakeTrainParams = Callable[..., TrainParams]


def test_new_layers_learn_faster(train_params: MakeTrainParams) -> None:
    """3D attention, the input and the output layer are a group of their own, whose rate is four times the others'."""
    params = train_params(new_layers_rate=4.0)
    trained = build_initial_networks(params).trained()
    names = {weight: name for name, weight in trained.items()}
    optimiser = build_optimiser(trained, params)
    set_learning_rate(optimiser, 1e-3)
    old, new = optimiser.param_groups
    assert (old["lr"], new["lr"]) == (1e-3, pytest.approx(4e-3))
    assert {names[weight].split(".")[2] for weight in new["params"]} >= {"conv_in", "conv_out"}
    assert any("attn_3d" in names[weight] for weight in new["params"])
    assert not any("_3d" in names[weight] or "conv_in" in names[weight] for weight in old["params"])
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(trained)


def test_one_group_without_a_rate_of_their_own(train_params: MakeTrainParams) -> None:
    """All weights in their order, as before."""
    trained = build_initial_networks(train_params()).trained()
    (group,) = weight_groups(trained, 1.0)
    assert group["params"] == list(trained.values())


@pytest.mark.parametrize(("kind", "rate"), [("adamw", 1.0), ("adamw", 3.0), ("adamw_8bit", 1.0)])
def test_the_state_goes_on_from_a_checkpoint(train_params: MakeTrainParams, kind: str, rate: float) -> None:
    """Steps after a round trip through named tensors equal those without, bit by bit."""
    if kind == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    params = train_params(new_layers_rate=rate, optimiser=kind)
    ways = []
    for interrupted in (False, True):
        weights = {name: nn.Parameter(torch.linspace(-1, 1, 5000)) for name in ("unet.unet.conv_in.w", "a.w", "b.w")}
        optimiser = build_optimiser(weights, params)
        for step in range(6):
            if interrupted and step == 3:
                stored = {f"{OPTIMISER}{name}": tensor.clone() for name, tensor in named_state(optimiser, weights)}
                optimiser = build_optimiser(weights, params)
                restore_state(optimiser, weights, stored)
            for number, weight in enumerate(weights.values()):
                weight.grad = torch.sin(weight.detach() * (step + number + 1))
            set_learning_rate(optimiser, 0.1)
            optimiser.step()
        ways.append(torch.cat([weight.detach() for weight in weights.values()]))
    assert torch.equal(*ways)


def test_bitsandbytes_is_named_where_it_is_missing(
    train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    for module in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(extras, "requires", lambda name: ["bitsandbytes>=0.48; extra == 'eight-bit'"])
    with pytest.raises(MissingDependency, match=r"adamw_8bit needs 'bitsandbytes', .*spinmeround\[eight-bit\]"):
        build_optimiser({"a": nn.Parameter(torch.zeros(1))}, train_params(optimiser="adamw_8bit"))


def test_the_learning_rate_rises_and_falls() -> None:
    """Known values: a linear rise, the peak, half of a cosine, the floor."""
    schedule = Schedule(peak=1.0, warm_up=10, decay=110, floor=0.1)
    assert [schedule.at(step) for step in (0, 4, 9, 10, 60, 110)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.55, 0.1])
