"""Computation of all screening scores of a head, and of the maps that explain them."""

from spinmeround.models.screening import image_scores, shape_scores, symmetry_scores
from spinmeround.models.screening.evidence import Evidence, ScoreFunction
from spinmeround.models.screening.scores import SCORES

_MODULES = (shape_scores, symmetry_scores, image_scores)


def score_functions() -> dict[str, ScoreFunction]:
    """The function of each score in `SCORES`, by name."""
    return {
        score.name: next(getattr(module, score.name) for module in _MODULES if hasattr(module, score.name))
        for score in SCORES
    }


def all_scores(evidence: Evidence) -> dict[str, float | None]:
    """Every score of a head, by name."""
    return {name: function(evidence) for name, function in score_functions().items()}
