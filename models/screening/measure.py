"""Computation of all screening scores of a head."""

from spinmeround.models.screening import (
    agreement_scores,
    face_scores,
    image_scores,
    inspection_scores,
    neck_scores,
    shape_scores,
    symmetry_scores,
)
from spinmeround.models.screening.evidence import Evidence, ScoreFunction
from spinmeround.models.screening.population_scores import POPULATION
from spinmeround.models.screening.roughness_scores import ROUGHNESS
from spinmeround.models.screening.scores import SCORES

_MODULES = (shape_scores, symmetry_scores, neck_scores, image_scores, agreement_scores, face_scores, inspection_scores)


def score_functions() -> dict[str, ScoreFunction]:
    """The function of each score in `SCORES`, by name."""
    return {score.name: _function(score.name) for score in SCORES}


def _function(name: str) -> ScoreFunction:
    if name in (made := {**ROUGHNESS, **POPULATION}):
        return made[name]
    function: ScoreFunction = next(getattr(module, name) for module in _MODULES if hasattr(module, name))
    return function


def all_scores(evidence: Evidence) -> dict[str, float | None]:
    """Every score of a head, by name."""
    return {name: function(evidence) for name, function in score_functions().items()}
