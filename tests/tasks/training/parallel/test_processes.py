"""A training divided among processes and parts of a batch computes the numbers of one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.by_phase import phase_batches
from spinmeround.tasks.training.gradients import backward
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.parallel.sharding import whole
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.launch import LaunchParams
from spinmeround.tasks.training.params.phases import AdaptPhase, GroupParams, MultiViewPhase
from spinmeround.tasks.training.state import TrainingState
from tests.support.processes import together

MakeTrainParams = Callable[..., TrainParams]
STEP = 7


def one_step(
    dataset: Path, params: TrainParams, encode: EncodeParams, dtype: torch.dtype = torch.float64
) -> dict[str, Any]:
    """The losses and gradients of a step of the whole batch, in this process or with others; in float64, because the
    smallest network amplifies the rounding of float32: its groups of normalised numbers have two members."""
    data, processes = HeadDataset.open(dataset), Processes(params)
    batches = phase_batches(data, data.split("train"), params, encode, processes.share)
    state = TrainingState(build_initial_networks(params).to(dtype), params, processes)
    groups = batches.read(STEP)
    losses = backward(state, groups, STEP)
    gradients = [whole(weight.grad).flatten() for weight in state.trained.values() if weight.grad is not None]
    for number, weight in enumerate(state.trained.values()):
        weight.data.mul_(1 + number % 3)
    return {
        "indices": groups.indices,
        "losses": losses.per_half.numpy(),
        "sigma": losses.sigma.numpy(),
        "gradients": torch.cat(gradients).numpy(),
        "distance": state.averages.distance(params.average.length),
    }


def relative_distance(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The norm of the difference of the gradients of two steps, as a share of that of the second one's."""
    difference = np.linalg.norm(found["gradients"] - expected["gradients"])
    return float(difference / np.linalg.norm(expected["gradients"]))


@pytest.fixture(scope="module")
def alone(dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams) -> dict[str, Any]:
    """A step of 8 groups, recoloured ones among them, in one process and one part."""
    return one_step(dataset, train_params(batch=8, random_background=0.5), encode_params)


@pytest.mark.parametrize(
    ("processes", "micro_batch", "sharding"),
    [(1, 2, "none"), (2, 0, "none"), (2, 1, "none"), (2, 1, "fsdp2")],
    ids=["1 process, 4 parts", "2 processes", "2 processes, 4 parts each", "2 processes with a half of the weights"],
)
def test_a_divided_batch_has_the_gradients_of_the_whole(
    alone: dict[str, Any],
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    processes: int,
    micro_batch: int,
    sharding: str,
) -> None:
    """Each process computes its share; losses, noise levels and gradients of the step equal those of one process to
    1e-6 relative, in all processes, and so does the distance of the average from weights that have moved."""
    params = train_params(batch=8, random_background=0.5, micro_batch=micro_batch, sharding=sharding)
    found = together(processes, lambda rank: one_step(dataset, params, encode_params), tmp_path)
    assert [index for each in found for index in each["indices"]] == list(range(8))
    for each in found:
        assert each["sigma"] == pytest.approx(alone["sigma"], rel=0, abs=0)
        assert each["losses"] == pytest.approx(alone["losses"], rel=1e-6)
        assert relative_distance(each, alone) <= 1e-6
        assert each["distance"] == pytest.approx(alone["distance"], rel=1e-6)
        assert each["distance"] > 0


def test_float32_differs_by_the_rounding_of_its_sums(
    one_head: Path, head_params: MakeTrainParams, tmp_path: Path
) -> None:
    """With a UNet of two levels, in float32: the gradients of parts and processes equal those of one process
    and one part to 1e-6 relative, and each is nearer than that to the gradients in float64. The fewer groups are summed
    in one pass, the nearer it is: no division of the batch adds an error of its own."""
    group = GroupParams(conditioning=1, targets=3)
    phase = MultiViewPhase(steps=10, groups=(group,))
    exact = one_step(one_head, head_params(multi_view=phase), EncodeParams())
    found = {}
    for processes, parts in ((1, 1), (1, 4), (2, 1), (2, 4)):
        params = head_params(multi_view=phase, micro_batch=8 // processes // parts)
        steps = together(
            processes, lambda rank, p=params: one_step(one_head, p, EncodeParams(), torch.float32), tmp_path
        )
        found[processes, parts] = steps[0]
    whole_batch = found[1, 1]
    for each in found.values():
        assert relative_distance(each, whole_batch) <= 1e-6
        assert relative_distance(each, exact) <= relative_distance(whole_batch, exact) <= 1e-6


def test_a_batch_that_cannot_be_divided_is_refused(train_params: MakeTrainParams, tmp_path: Path) -> None:
    """A batch of 3 groups for 2 processes."""

    def refused(rank: int) -> str:
        with pytest.raises(ConfigError) as error:
            Processes(train_params(batch=3))
        torch.distributed.barrier()  # the other process may still be connecting to this one
        return str(error.value)

    messages = together(2, refused, tmp_path)
    assert (
        messages
        == ["train.batch: expected a multiple of the 2 processes, got 3; change the batch or the number of processes"]
        * 2
    )


def test_another_number_of_processes_than_the_profile_has_is_refused(train_params: MakeTrainParams) -> None:
    """A launcher that starts one process in place of two, as accelerate does with --cpu."""
    launch = LaunchParams(launcher="accelerate", processes=2)
    with pytest.raises(ConfigError, match=r"train\.launch: expected 2 processes of accelerate, found 1"):
        Processes(train_params(launch=launch))


def test_single_pictures_are_divided_alike(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """`adapt` in two processes and two parts each: the numbers of one process to 1e-6
    relative, of the image alone."""
    nothing = train_params().multi_view.model_copy(update={"steps": 0})
    params = train_params(adapt=AdaptPhase(steps=9), multi_view=nothing, final_rate=1.0, batch=4, random_background=0.5)
    expected = one_step(dataset, params, encode_params)
    assert expected["losses"].shape == (4, 1)
    parts = params.model_copy(update={"micro_batch": 1})
    for each in together(2, lambda rank: one_step(dataset, parts, encode_params), tmp_path):
        assert each["losses"] == pytest.approx(expected["losses"], rel=1e-6)
        assert relative_distance(each, expected) <= 1e-6
