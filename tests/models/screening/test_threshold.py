"""Thresholds reach their target on the heads that they are chosen on, and lie between two heads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.models.screening.threshold import Errors, Target, held_out_drops, threshold_for_loss

pytestmark = pytest.mark.fast
LOG_ODDS = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
DEFECTIVE = np.array([False, False, False, False, True, False, True, True])


@pytest.mark.parametrize(
    ("target", "threshold"),
    [
        (Target(keep=1.0), 2.5),
        (Target(keep=0.8), 0.5),
        (Target(recall=1.0), 0.5),
        (Target(recall=0.6), 2.5),
        (Target(recall=0.3), 3.5),
    ],
)
def test_thresholds_are_half_way_between_two_heads(target, threshold):
    assert target.threshold(LOG_ODDS, DEFECTIVE) == threshold


@given(log_odds=st.lists(st.floats(-5, 5), min_size=4, max_size=30), loss=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_more_clean_heads_are_lost_than_allowed(log_odds, loss, seed):
    """For any log-odds with ties and any loss."""
    values = np.array(log_odds)
    defective = np.random.default_rng(seed).random(len(values)) < 0.4
    defective[0] = False
    dropped = values > threshold_for_loss(values, defective, loss)
    assert Errors.of(dropped, defective).lost.share <= loss + 1e-9


def test_held_out_thresholds_ignore_the_heads_that_they_judge():
    """Each of two folds is judged by the other's threshold."""
    log_odds, defective = np.array([0.0, 1.0, 10.0, 0.0, 7.0, 8.0]), np.array([False, False, True] * 2)
    fold = np.array([0, 0, 0, 1, 1, 1])
    dropped = held_out_drops(log_odds, defective, fold, Target(keep=1.0))
    assert dropped.tolist() == [False, False, True, False, True, True]


@pytest.mark.parametrize("target", [Target(keep=0.9), Target(recall=0.9)])
def test_a_target_without_its_heads_is_refused(target):
    with pytest.raises(ValueError, match="expected at least one"):
        target.threshold(np.zeros(3), np.full(3, target.keep is not None))
