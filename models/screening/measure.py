"""Computation of all screening scores of a head."""

from spinmeround.models.screening import image_scores, shape_scores
from spinmeround.models.screening.evidence import Evidence, ScoreFunction
from spinmeround.models.screening.scores import SCORES


def score_functions() -> dict[str, ScoreFunction]:
    """The function of each score in `SCORES`, by name."""
    return {
        score.name: getattr(shape_scores, score.name, None) or getattr(image_scores, score.name) for score in SCORES
    }


def all_scores(evidence: Evidence) -> dict[str, float | None]:
    """Every score of a head, by name."""
    return {name: function(evidence) for name, function in score_functions().items()}
