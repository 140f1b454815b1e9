"""Recall with and without parts of the evidence."""

import numpy as np
import pytest

from spinmeround.models.screening.ablation import EVERYTHING, evidence_parts, only, recall, recalls
from spinmeround.models.screening.calibration import LabelledScores
from spinmeround.models.screening.fit import FitSettings
from spinmeround.models.screening.scores import SCORES
from tests.models.screening.test_calibration import NAMES, population

USUAL = FitSettings(inverse_penalty=3.0, invented=8.0)


def test_every_score_is_in_one_part():
    """The parts are the modules of the scores' functions, and together all scores."""
    parts = evidence_parts()
    assert sorted(name for names in parts.values() for name in names) == sorted(NAMES)
    assert "stray_volume" in parts["shape"]


def test_only_hides_all_other_scores():
    heads, _ = population(5, 3)
    kept = only(heads, ["crown_height"])
    assert np.isnan(kept.values).sum() == 8 * (len(SCORES) - 1)
    assert (kept.values[:, NAMES.index("crown_height")] == heads.values[:, NAMES.index("crown_height")]).all()


def test_recall_at_a_loss_of_known_log_odds():
    """Of four clean heads one may be lost; both defective heads above the next one are caught."""
    heads = LabelledScores(values=np.zeros((7, len(SCORES))), defective=np.arange(7) >= 4)
    log_odds = np.array([0.0, 1.0, 2.0, 8.0, 1.5, 5.0, 6.0])
    assert recall(log_odds, heads, (0.0, 0.25)) == {0.0: 0.0, 0.25: pytest.approx(2 / 3)}


def test_a_defect_needs_the_part_that_shows_it():
    """Without the only part that shows a defect, recall falls to chance; other families are judged alike."""
    caught = {EVERYTHING: [], "shape only": [], "without shape": []}
    for seed in range(0, 12, 2):  # a single draw is up to 0.15 off the mean
        heads, _ = population(300, 100, only=["stray_volume"], shift=9.0, seed=seed)
        judged, _ = population(300, 100, only=["stray_volume"], shift=9.0, seed=seed + 1)
        rows = {row.evidence: row for row in recalls(heads, judged, judged, USUAL)}
        assert all(row.known == row.held_out for row in rows.values())
        for evidence, found in caught.items():
            found.append(rows[evidence].known[0.01])
    assert np.mean(caught[EVERYTHING]) > 0.94
    assert min(caught["shape only"]) > 0.95
    assert max(caught["without shape"]) < 0.2
