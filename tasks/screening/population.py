"""Fitting a population to scored heads, without labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spinmeround.models.screening.population import fit_population
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.population import PopulationFile, write_population
from spinmeround.tasks.heads.score import load_unwrapped


def fit_to_scored(folders: Sequence[Path], path: Path, *, generator: str, heads: str) -> PopulationFile:
    """Fit a population to the heads of score artifacts and write it; `heads` describes the heads in words.

    Raises ConfigError for too few heads.
    """
    try:
        population = fit_population(np.stack([load_unwrapped(folder) for folder in folders]))
    except ValueError as error:
        raise ConfigError(f"{error} (plan.heads)") from error
    file = PopulationFile(population=population, generator=generator, origin=heads)
    write_population(path, file)
    return file
