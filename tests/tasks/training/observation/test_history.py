"""Losses of a training: records, and the measures by which it goes wrong."""

import pytest

from spinmeround.tasks.training.observation.history import LossHistory, first_and_last, loss_records
from spinmeround.tasks.training.params import GuardParams


def history(losses: list[float], skipped: tuple[int, ...] = ()) -> LossHistory:
    """Losses of the steps from 0 that are not skipped."""
    steps = [step for step in range(len(losses) + len(skipped)) if step not in skipped]
    return LossHistory(steps=steps, losses=losses, skipped=dict.fromkeys(skipped, "NaN"))


def test_records_and_ends() -> None:
    """Known values: losses 0 to 19, records of 8 steps; a step that was not taken is in no mean."""
    losses = [float(loss) for loss in range(20)]
    assert loss_records(range(20), losses, 8, 20) == [
        {"step": 8, "loss": 3.5},
        {"step": 16, "loss": 11.5},
        {"step": 20, "loss": 17.5},
    ]
    assert loss_records([0, 1, 9], [1.0, 2.0, 4.0], 4, 10) == [{"step": 4, "loss": 1.5}, {"step": 10, "loss": 4.0}]
    assert first_and_last(losses) == (0.5, 18.5)


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        (history([1.0] * 40), None),
        (history([1.0] * 30 + [4.9] * 10), None),
        (history([1.0] * 30 + [5.1] * 10), range(30, 40)),
        (history(([0.01] * 9 + [1.0]) * 12), None),
        (history(([0.01] * 9 + [1.0]) * 12 + [0.6] * 10), range(120, 130)),
        (history([1.0] * 9 + [100.0] * 10), None),
        (history([1.0] * 35, skipped=(35, 36)), None),
        (history([1.0] * 35, skipped=(35, 36, 37)), range(35, 38)),
        (history([], skipped=(0, 1, 2)), range(3)),
        (history([1.0] * 35, skipped=(20, 21, 37)), None),
    ],
    ids=[
        "level",
        "below the limit",
        "spike",
        "most of the loss in few steps",
        "spike of such losses",
        "too few",
        "two skipped",
        "three in a row",
        "at the start",
        "not in a row",
    ],
)
def test_failures(found: LossHistory, failed: range | None) -> None:
    """Three skipped steps in a row, or ten losses whose mean is five times that of the ten before, by the
    median over up to ten such windows."""
    guard = GuardParams(most_skipped=3, window=10, spike=5.0)
    assert found.failure(len(found.losses) + len(found.skipped) - 1, guard) == failed
    assert GuardParams(spike=0.0, window=10)
    assert found.failure(39, GuardParams(spike=0.0, window=10)) is None


def test_avoided_steps_are_no_new_failure_and_survive_a_checkpoint() -> None:
    """After a return the failed steps count as avoided; the history equals itself after saving and loading."""
    guard, found = GuardParams(most_skipped=3), history([0.5, 0.25], skipped=(2,))
    again = found.avoiding(range(3, 6))
    assert again.failure(5, guard) is None
    assert (again.rollbacks, again.avoided, found.rollbacks) == (1, {3, 4, 5}, 0)
    assert LossHistory.restored(again.tensors(), again.state()) == again
