"""Scores of how far a head lies from a population of heads, by region and by modality; `SCORES` describes them."""

from collections.abc import Callable

from spinmeround.models.screening.evidence import Evidence, Map
from spinmeround.models.screening.frame import REGIONS
from spinmeround.models.screening.grid import MODALITIES
from spinmeround.models.screening.population import Deviations, population_scores
from spinmeround.models.screening.unwrapping import over_previews, unwrap

NAMES = ("population", *(f"population_{part}" for part in (*REGIONS, *MODALITIES)))


def deviations(evidence: Evidence) -> Deviations | None:
    """Deviations of a head's cells by modality; None without a population."""
    return None if evidence.population is None else evidence.population.deviations(evidence.once(unwrap))


def population_map(evidence: Evidence) -> Map | None:
    """The largest deviation over the modalities, over the previews; None without a population."""
    found = evidence.once(deviations)
    return None if found is None else over_previews(evidence, found.max(axis=0))


def _score(name: str) -> Callable[[Evidence], float | None]:
    def score(evidence: Evidence) -> float | None:
        found = evidence.once(_scores)
        return None if found is None else found[name]

    score.__name__ = name
    return score


def _scores(evidence: Evidence) -> dict[str, float] | None:
    found = evidence.once(deviations)
    return None if found is None else population_scores(found)


POPULATION: dict[str, Callable[[Evidence], float | None]] = {name: _score(name) for name in NAMES}
"""Functions of the scores, by name."""
