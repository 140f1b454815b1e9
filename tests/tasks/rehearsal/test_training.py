"""The training in a rehearsal: what is timed, and how it is extrapolated."""

import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.rehearsal.costs import ModelCost, TrainingForecast, training_processes
from spinmeround.tasks.rehearsal.training import (
    equivalent_groups,
    group_and_step,
    groups_at_once,
    groups_of_step,
    recoloured_groups,
    timed_steps,
)
from spinmeround.tasks.training.params import SamplesParams, TrainParams, ValidationParams
from spinmeround.tasks.training.params.launch import LaunchParams

EIGHT = LaunchParams(launcher="torchrun", processes=8)


@pytest.mark.parametrize(
    ("changes", "at_once", "larger"),
    [
        ({}, 32, 32),
        ({"micro_batch": 1}, 1, 2),
        ({"micro_batch": 3}, 3, 6),
        ({"launch": EIGHT}, 4, 4),
        ({"launch": EIGHT, "micro_batch": 8}, 4, 4),
        ({"launch": LaunchParams(launcher="torchrun", processes=32)}, 1, 1),
    ],
    ids=["all at once", "one by one", "three", "a share of eight", "a smaller share", "one of each process"],
)
def test_the_timed_step_has_the_real_forward_pass(changes: dict[str, object], at_once: int, larger: int) -> None:
    """Its groups at once are those of one process of the training, so its memory is that of the training; a step with
    several passes has two, so that gradients of the first are there in the second."""
    train = TrainParams().model_copy(update=changes)
    assert (groups_at_once(train), groups_of_step(train)) == (at_once, larger)
    timed = timed_steps(train, larger)
    assert (timed.phase.groups[0].batch, timed.micro_batch, timed.launch.total) == (larger, at_once, 1)
    assert timed.phase.groups[0].views == 8


def test_a_timed_step_makes_its_own_batch_on_all_or_no_colours() -> None:
    """Nothing of its batch is prepared during the step before, and nothing else is measured with it."""
    watched = TrainParams(validation=ValidationParams(every=1), samples=SamplesParams(every=1), prefetch=3, workers=2)
    for recoloured in (False, True):
        timed = timed_steps(watched, 2, recoloured=recoloured)
        assert timed.random_background == float(recoloured)
        assert (timed.prefetch, timed.workers, timed.validation.every, timed.samples.every) == (0, 0, 0, 0)


def test_groups_count_by_their_views() -> None:
    """Known numbers: phases of groups of 1, 8 and 8 views, 32 groups a step; half of them get another background, but
    not pictures from outside of the dataset."""
    train = TrainParams()
    assert equivalent_groups(train) == (31_000 / 8 + 600_000 + 1_000_000) * 32
    assert recoloured_groups(train) == equivalent_groups(train) / 2
    faces = train.adapt.faces.model_copy(update={"source": "photos"})
    outside = train.model_copy(update={"adapt": train.adapt.model_copy(update={"faces": faces})})
    assert recoloured_groups(outside) == 1_600_000 * 32 / 2
    assert recoloured_groups(train.model_copy(update={"random_background": 0.0})) == 0


@pytest.mark.parametrize(
    ("less", "most", "sizes", "expected"),
    [
        (2.5, 4.5, (1, 2), (2.0, 0.5)),
        (1.0, 2.5, (1, 2), (1.0, 0.0)),
        (1.0, 0.9, (1, 2), (1.0, 0.0)),
        (16.5, 32.5, (16, 32), (1.0, 0.5)),
        (2.5, 6.5, (1, 3), (2.0, 0.5)),
        (3.0, 3.0, (1, 1), (3.0, 0.0)),
    ],
    ids=["two", "more than twice", "busy machine", "sixteen", "odd", "a single group"],
)
def test_a_group_is_told_from_the_rest_of_a_step(
    less: float, most: float, sizes: tuple[int, int], expected: tuple[float, float]
) -> None:
    """From the times of steps of two sizes."""
    if sizes == (1, 1):
        assert group_and_step(less, most, 1, 2) == expected  # nothing to compare with
    else:
        assert group_and_step(less, most, *sizes) == expected


def test_only_groups_are_divided_and_equally() -> None:
    """Known numbers: 2 s a group and half a second for its colours, half a second of a step for the optimiser. Of 12
    devices 8 are used, since they have equal shares of 32 groups; more than 32 are of no use."""
    train = TrainParams()
    units = equivalent_groups(train)
    plain = ModelCost(
        part="train",
        unit="a group",
        seconds=2.0,
        units=units,
        among=8,
        peak_bytes=1,
        steps=train.steps,
        step_seconds=0.5,
    )
    colours = ModelCost(part="recolour", unit="a group", seconds=1.0, units=units / 2, among=8, peak_bytes=1)
    assert plain.hours == pytest.approx((2 * units / 8 + 0.5 * 1_631_000) / 3600)
    assert plain.basis == "a group measured; x 51,324,000 / 8 + 0.50 s x 1,631,000 steps"
    forecast = TrainingForecast.of([plain, colours], train)
    assert forecast.hours(8) == pytest.approx(plain.hours + colours.hours)
    assert [forecast.most(devices) for devices in (1, 7, 8, 12, 100)] == [1, 4, 8, 8, 32]
    needed = forecast.needed(90 * 24)
    assert needed == 32
    assert forecast.hours(32) <= 90 * 24 < forecast.hours(16)
    assert forecast.needed(30 * 24) is None


@pytest.mark.parametrize(
    ("changes", "devices", "message"),
    [
        ({"launch": EIGHT}, 4, "--gpus: expected at least the 8 processes of train.launch, one a device, got 4"),
        ({"launch": EIGHT, "batch": 12}, 8, "a number of processes that divides the 12 groups of a step, got 8"),
    ],
    ids=["too few devices", "unequal shares"],
)
def test_processes_that_the_devices_or_groups_do_not_allow_are_refused(
    changes: dict[str, object], devices: int, message: str
) -> None:
    """The error names the field."""
    train = load_profile("panohead").train.model_copy(update=changes)
    with pytest.raises(ConfigError, match=message):
        training_processes(train, devices)
