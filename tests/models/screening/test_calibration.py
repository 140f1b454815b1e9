"""Limits do what they are chosen for, on heads whose scores are drawn from known distributions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.models.screening.calibration import (
    LabelledScores,
    choose_limits,
    cross_validated,
    dropped,
    pick,
    shares,
)
from spinmeround.models.screening.scores import SCORES

NAMES = [score.name for score in SCORES]


def population(sound, spoilt, *, shift=8.0, seed=0, only=None):
    """Sound heads have standard normal scores; each spoilt one is off by `shift`, the bad way, in one score."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((sound + spoilt, len(SCORES)))
    columns = rng.choice([NAMES.index(name) for name in only] if only else len(SCORES), size=spoilt)
    signs = np.array([1.0 if score.bad == "above" else -1.0 for score in SCORES])
    values[sound + np.arange(spoilt), columns] += shift * signs[columns]
    return LabelledScores(values=values, spoilt=np.arange(sound + spoilt) >= sound), columns


@settings(max_examples=20, deadline=None)
@given(
    sound=st.integers(1, 60), spoilt=st.integers(0, 30), loss=st.floats(0.0, 0.5), shift=st.floats(0.0, 10.0),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_no_more_sound_heads_are_lost_than_allowed(sound, spoilt, loss, shift, seed):
    """Whatever the scores are, the limits lose at most the share allowed of the heads that they were chosen on."""
    heads, _ = population(sound, spoilt, shift=shift, seed=seed)
    assert shares(heads, choose_limits(heads, loss))[0] <= loss


def test_clear_faults_are_all_caught_without_loss():
    """Faults far outside of what sound heads show cost no sound head."""
    heads, _ = population(200, 100, shift=20.0)
    assert shares(heads, choose_limits(heads, 0.0)) == (0.0, 1.0)


def test_loss_is_spent_where_it_catches_most():
    """Of two scores, the one that tells the faults gets the tighter limit."""
    heads, _ = population(1000, 300, shift=2.0, only=["stray_volume"])
    limits = choose_limits(heads, 0.05)
    lost = {
        name: int((heads.values[~heads.spoilt, NAMES.index(name)] > limits[name]).sum())
        for name in ("stray_volume", "cavity_volume")
    }
    assert lost["stray_volume"] > 5 * lost["cavity_volume"]


def test_faults_of_an_unlabelled_kind_are_caught_too():
    """A score that no labelled head fails still has a limit, near what sound heads show."""
    heads, _ = population(500, 100, only=["stray_volume", "crown_height"])
    strangers, _ = population(0, 100, seed=1, only=["colour_seam", "back_depth"])
    assert shares(strangers, choose_limits(heads, 0.03))[1] > 0.95


def test_score_that_could_not_be_had_has_no_limit_and_drops_nobody():
    heads, _ = population(50, 20)
    heads.values[:, NAMES.index("recognition_at_back")] = np.nan
    limits = choose_limits(heads, 0.0)
    assert "recognition_at_back" not in limits
    assert not dropped(heads[~heads.spoilt], limits | {"recognition_at_back": -1e9}).any()


def test_scores_that_are_bad_when_low_have_lower_limits():
    """The limit of such a score lies below its sound values, and only lower values fall to it."""
    heads, _ = population(300, 100, only=["crown_height"])
    limit = choose_limits(heads, 0.0)["crown_height"]
    assert limit < heads.values[~heads.spoilt, NAMES.index("crown_height")].min()


def test_cross_validation_judges_heads_that_the_choice_has_not_seen():
    """Spoilt heads that differ from sound ones by nothing are caught about as often as sound ones are lost."""
    heads, _ = population(600, 200, shift=0.0)
    for point in cross_validated(heads):
        assert point.caught == pytest.approx(point.lost, abs=0.06)


def test_pick_reaches_the_aim_or_says_how_far_it_can():
    curve = cross_validated(population(400, 200, shift=5.0)[0])
    kept = pick(curve, keep=0.9)
    assert kept.lost <= 0.1
    assert all(point.caught <= kept.caught for point in curve if point.lost <= 0.1)
    caught = pick(curve, catch=kept.caught)
    assert caught.lost <= kept.lost
    with pytest.raises(ValueError, match=r"keep 1: the most that can be kept is 0\.9"):
        pick([point for point in curve if point.lost > 0], keep=1.0)
    with pytest.raises(ValueError, match=r"recall 1\.1: the most"):
        pick(curve, catch=1.1)


def test_no_sound_head_is_refused():
    heads, _ = population(0, 5)
    with pytest.raises(ValueError, match="some sound heads"):
        choose_limits(heads, 0.1)
