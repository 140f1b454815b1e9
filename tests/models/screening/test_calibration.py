"""Limits reach their target on heads whose scores come from known distributions."""

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


def population(clean, defective, *, shift=8.0, seed=0, only=None):
    """Clean heads have standard normal scores; each defective head has one score that is worse by `shift`."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((clean + defective, len(SCORES)))
    columns = rng.choice([NAMES.index(name) for name in only] if only else len(SCORES), size=defective)
    signs = np.array([1.0 if score.bad == "above" else -1.0 for score in SCORES])
    values[clean + np.arange(defective), columns] += shift * signs[columns]
    return LabelledScores(values=values, defective=np.arange(clean + defective) >= clean), columns


@settings(max_examples=20, deadline=None)
@given(
    clean=st.integers(1, 60), defective=st.integers(0, 30), loss=st.floats(0.0, 0.5), shift=st.floats(0.0, 10.0),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_loss_of_clean_heads_stays_within_the_allowance(clean, defective, loss, shift, seed):
    """For any scores, the limits drop at most the allowed share of the clean heads that they are chosen on."""
    heads, _ = population(clean, defective, shift=shift, seed=seed)
    assert shares(heads, choose_limits(heads, loss))[0] <= loss


@pytest.mark.parametrize("clean", [24, 60, 400])
def test_unseen_clean_heads_pass(clean):
    """From few clean heads as from many, the limits lose no more unseen heads than allowed, and catch clear defects."""
    heads, _ = population(clean, clean // 3)
    unseen, _ = population(1000, 1000, seed=1)
    lost, caught = shares(unseen, choose_limits(heads, 0.1))
    assert lost < 0.1
    assert caught > 0.9


def test_clear_defects_are_caught_without_loss():
    """Defects far outside the range of clean heads are all dropped, and no clean head is."""
    heads, _ = population(200, 100, shift=20.0)
    assert shares(heads, choose_limits(heads, 0.0)) == (0.0, 1.0)


def test_loss_is_spent_on_the_informative_score():
    """The score that detects the defects gets a tighter limit than the other."""
    heads, _ = population(1000, 300, shift=2.0, only=["stray_volume"])
    limits = choose_limits(heads, 0.05)
    lost = {
        name: int((heads.values[~heads.defective, NAMES.index(name)] > limits[name]).sum())
        for name in ("stray_volume", "cavity_volume")
    }
    assert lost["stray_volume"] > 5 * lost["cavity_volume"]


def test_unlabelled_kinds_of_defects_are_caught():
    """A score that no labelled head fails still has a limit, close to the range of clean heads."""
    heads, _ = population(500, 100, only=["stray_volume", "crown_height"])
    unlabelled, _ = population(0, 100, seed=1, only=["colour_seam", "back_depth"])
    assert shares(unlabelled, choose_limits(heads, 0.03))[1] > 0.95


def test_missing_score_has_no_limit_and_drops_no_head():
    """A score that is NaN for all heads gets no limit, and a limit on it drops no head."""
    heads, _ = population(50, 20)
    heads.values[:, NAMES.index("recognition_at_back")] = np.nan
    limits = choose_limits(heads, 0.0)
    assert "recognition_at_back" not in limits
    assert not dropped(heads[~heads.defective], limits | {"recognition_at_back": -1e9}).any()


def test_scores_that_are_bad_when_low_have_lower_limits():
    """The limit of such a score is below all values of clean heads."""
    heads, _ = population(300, 100, only=["crown_height"])
    limit = choose_limits(heads, 0.0)["crown_height"]
    assert limit < heads.values[~heads.defective, NAMES.index("crown_height")].min()


def test_cross_validation_is_unbiased():
    """Defective heads with the distribution of clean heads are caught about as often as clean heads are lost."""
    heads, _ = population(600, 200, shift=0.0)
    for point in cross_validated(heads):
        assert point.caught == pytest.approx(point.lost, abs=0.06)


def test_pick_reaches_the_target_or_reports_the_best():
    """`keep` and `recall` select the best point; an impossible target raises an error with the best value."""
    curve = cross_validated(population(400, 200, shift=5.0)[0])
    kept = pick(curve, keep=0.9)
    assert kept.lost <= 0.1
    assert all(point.caught <= kept.caught for point in curve if point.lost <= 0.1)
    caught = pick(curve, recall=kept.caught)
    assert caught.lost <= kept.lost
    with pytest.raises(ValueError, match=r"keep: expected 1, at most 0\.9\d+ is possible"):
        pick([point for point in curve if point.lost > 0], keep=1.0)
    with pytest.raises(ValueError, match=r"recall: expected 1\.1, at most"):
        pick(curve, recall=1.1)


def test_labels_without_a_clean_head_are_refused():
    """Without a clean head no limit can be chosen."""
    heads, _ = population(0, 5)
    with pytest.raises(ValueError, match="expected at least one clean head"):
        choose_limits(heads, 0.1)
