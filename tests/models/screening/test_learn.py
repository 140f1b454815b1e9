"""Verdicts that are learned from heads whose scores come from known distributions."""

from dataclasses import replace

import numpy as np
import pytest

from spinmeround.models.screening.calibration import LabelledScores
from spinmeround.models.screening.fit import (
    CANDIDATES,
    FitSettings,
    choose,
    fit_curves,
    kind_folds,
    out_of_fold,
    platt,
    random_folds,
    surprise_of,
)
from spinmeround.models.screening.learn import learn
from spinmeround.models.screening.scores import SCORES
from spinmeround.models.screening.threshold import Target
from tests.models.screening.test_calibration import NAMES, population

USUAL = FitSettings(inverse_penalty=3.0, invented=8.0)


def caught_at(heads: LabelledScores, log_odds: np.ndarray, loss: float) -> float:
    """Share of the defective heads above the threshold that loses this share of the clean ones."""
    return float((log_odds[heads.defective] > np.quantile(log_odds[~heads.defective], 1 - loss)).mean())


def test_surprise_is_the_share_of_clean_heads_that_are_as_bad():
    """-log10 of the share, for values among the clean heads; it rises without end of information beyond them."""
    clean = np.arange(1.0, 1001.0)
    found = surprise_of(clean)
    assert found(np.array([1000.0, 901.0, 501.0])) == pytest.approx(-np.log10([1, 100, 500]) + np.log10(1001), abs=0.05)
    beyond = found(np.array([1000.0, 1200.0, 2000.0, 1e9]))
    assert (np.diff(beyond) > 0).all()
    assert beyond[-1] == pytest.approx(np.log10(1001) + 4.4)
    assert found(np.array([np.nan])) == pytest.approx(found(np.array([np.median(clean)])))


def test_a_score_of_zero_in_nearly_all_clean_heads_is_no_surprise():
    """A score with ties: zero has no surprise, a value above all clean heads has much."""
    clean = np.zeros(200)
    clean[:3] = (0.1, 0.2, 0.3)
    found = surprise_of(clean)
    assert found(np.array([0.0]))[0] < 0.01
    assert found(np.array([0.5]))[0] > 2.3


def test_a_worse_score_never_speaks_for_a_head():
    """Every curve is monotone in the direction in which its score is bad, and 0 at the median of the clean heads."""
    heads, _ = population(300, 80, shift=3.0)
    for curve in fit_curves(heads, USUAL).curves:
        at = NAMES.index(curve.score)
        steps = np.diff(curve.log_odds)
        assert (steps >= -1e-12).all() if SCORES[at].bad == "above" else (steps <= 1e-12).all()
        assert curve.at(np.array([np.median(heads.values[~heads.defective, at])]))[0] == pytest.approx(0.0, abs=1e-9)


def test_weak_evidence_adds_up():
    """Defects that no single score shows are caught from all scores together, which no limits can do."""
    rng = np.random.default_rng(3)
    signs = np.array([1.0 if score.bad == "above" else -1.0 for score in SCORES])
    values = rng.standard_normal((1200, len(SCORES)))
    values[800:] += signs * 1.3
    heads = LabelledScores(values=values, defective=np.arange(1200) >= 800)
    log_odds = out_of_fold(heads, random_folds(heads, 5), USUAL)
    assert caught_at(heads, log_odds, 0.03) > 0.9


def test_kinds_without_labels_are_caught():
    """Invented defects give weight to scores that no labelled defect shows; without them most such heads escape."""
    caught = {8.0: list[float](), 0.0: list[float]()}
    for seed in range(10, 16):  # a single draw is up to 0.1 off the mean
        heads, _ = population(500, 100, only=["stray_volume", "crown_height"], shift=6.0, seed=seed)
        others, _ = population(200, 100, only=["colour_seam", "back_depth"], shift=6.0, seed=seed + 20)
        for invented, found in caught.items():
            fitted = fit_curves(heads, replace(USUAL, invented=invented))
            found.append(caught_at(others, fitted.log_odds(others.values), 0.03))
    assert np.mean(caught[8.0]) > 0.85
    assert np.mean(caught[0.0]) < 0.5
    assert all(with_them > without for with_them, without in zip(caught[8.0], caught[0.0], strict=True))


def test_missing_scores_change_nothing():
    """A score that no head has gets no curve; one that a head lacks adds nothing to its log-odds."""
    heads, _ = population(100, 40)
    at = NAMES.index("recognition_at_back")
    heads.values[:, at] = np.nan
    fitted = fit_curves(heads, USUAL)
    assert "recognition_at_back" not in {curve.score for curve in fitted.curves}
    unknown = np.full((1, len(SCORES)), np.nan)
    assert fitted.log_odds(unknown) == pytest.approx([fitted.intercept])


def test_folds_hold_kinds_out_and_share_them():
    """A kind is in one fold of the one split, and the other split spreads defective heads evenly."""
    heads, columns = population(60, 40)
    kinds = [""] * 60 + [f"kind {column % 7}" for column in columns]
    by_kind = kind_folds(heads, kinds, 5)
    assert all(
        len({fold for fold, kind in zip(by_kind, kinds, strict=True) if kind == f"kind {n}"}) == 1 for n in range(7)
    )
    evenly = random_folds(heads, 5)
    assert np.bincount(evenly[heads.defective]).tolist() == [8] * 5


def test_platt_recovers_known_log_odds():
    """Labels drawn with log-odds 2 x - 1 give slope 2 and offset -1; labels without relation are refused."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000)
    slope, offset = platt(x, rng.random(20_000) < 1 / (1 + np.exp(1 - 2 * x)))
    assert (slope, offset) == (pytest.approx(2.0, abs=0.1), pytest.approx(-1.0, abs=0.1))
    with pytest.raises(ValueError, match="scores that tell defective from clean heads"):
        platt(x, x < 0)


@pytest.fixture
def few_candidates(monkeypatch):
    """Two settings instead of all, to be fast."""
    monkeypatch.setattr("spinmeround.models.screening.fit.CANDIDATES", CANDIDATES[-2:])


def test_sixty_labels_are_enough_for_clear_defects(few_candidates):
    """Learned from 60 heads, the verdict holds on 2,000 others, at about the loss that it was asked for."""
    heads, _ = population(44, 16, shift=8.0)
    learned = learn(heads, kinds=[""] * 60, at_random=np.ones(60, bool), target=Target(keep=0.95))
    others, _ = population(1500, 500, shift=8.0, seed=9)
    log_odds = learned.additive.log_odds(others.values)
    dropped = 1 / (1 + np.exp(-log_odds)) > learned.threshold
    assert dropped[others.defective].mean() > 0.8
    assert dropped[~others.defective].mean() < 0.12
    assert learned.unseen == ()


def test_heads_that_were_not_drawn_at_random_train_but_count_in_no_rate(few_candidates):
    """Additional heads with many defects leave the calibrated share of defective heads near that of the random ones."""
    heads, _ = population(180, 20, shift=6.0)
    extra, _ = population(0, 150, shift=6.0, seed=4)
    both = LabelledScores(
        values=np.concatenate([heads.values, extra.values]),
        defective=np.concatenate([heads.defective, extra.defective]),
    )
    at_random = np.arange(350) < 200
    learned = learn(both, kinds=[""] * 350, at_random=at_random, target=Target(keep=0.95))
    fresh, _ = population(1800, 200, shift=6.0, seed=8)
    share = (1 / (1 + np.exp(-learned.additive.log_odds(fresh.values)))).mean()
    assert share == pytest.approx(0.1, abs=0.03)


def test_the_target_holds_on_heads_that_the_fit_has_not_seen(few_candidates):
    """The share of clean heads lost by verdicts that have not seen them is within the target."""
    heads, columns = population(300, 90, shift=2.5)
    kinds = [""] * 300 + [f"kind {column}" for column in columns]
    learned = learn(heads, kinds=kinds, at_random=np.ones(390, bool), target=Target(keep=0.97))
    assert learned.dropped[~heads.defective].mean() <= 0.03
    assert [point.allowed for point in learned.unseen] == [point.allowed for point in learned.curve]


def test_choosing_prefers_what_catches_unseen_kinds(monkeypatch):
    """Of two settings, the one with invented defects is chosen when each kind shows in a score of its own."""
    settings = (FitSettings(inverse_penalty=1.0, invented=0.0), USUAL)
    monkeypatch.setattr("spinmeround.models.screening.fit.CANDIDATES", settings)
    heads, columns = population(300, 90, shift=5.0)
    assert choose(heads, [""] * 300 + [f"kind {column}" for column in columns], folds=5) == USUAL


def test_labels_of_one_kind_only_are_refused():
    heads, _ = population(2, 5)
    with pytest.raises(ValueError, match="at least 3 clean heads and a defective one, found 2 and 5"):
        fit_curves(heads, USUAL)
