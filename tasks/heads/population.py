"""The file of a population: what clean heads of one generator have in common (`models.screening.population`).

An .npz file with the arrays of the subspaces, and `about`, a JSON text: generator, origin, version of the format.
`spinmeround screen population` writes it. A plan reads only the name of the generator, which needs no SciPy.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import write_atomic

if TYPE_CHECKING:
    from spinmeround.models.screening.population import Population

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PopulationFile:
    """A population, the name of its generator, and where its heads come from, in words."""

    population: "Population"
    generator: str
    origin: str


def write_population(path: Path, file: PopulationFile) -> None:
    """Write the file; arrays are rounded to float16 but for those that are divided by."""
    buffer = io.BytesIO()
    about = json.dumps({"format": FORMAT, "generator": file.generator, "origin": file.origin}, allow_nan=False)
    arrays = {
        name: array.astype(np.float16) if name.endswith("directions") else array
        for name, array in file.population.arrays().items()
    }
    np.savez_compressed(buffer, about=np.array(about), **arrays)  # type: ignore[arg-type]
    with environment_errors(path):
        write_atomic(path, buffer.getvalue())


def population_generator(path: Path) -> str:
    """The name of the generator of a file's heads. Raises ConfigError for another kind of file."""
    with _opened(path) as arrays:
        return str(_about(arrays)["generator"])


@lru_cache(maxsize=2)
def read_population(path: Path) -> PopulationFile:
    """The population in a file, read once per process. Raises ConfigError for another kind of file."""
    from spinmeround.models.screening.population import Population

    with _opened(path) as arrays:
        about = _about(arrays)
        return PopulationFile(
            population=Population.of_arrays({name: arrays[name] for name in arrays if name != "about"}),
            generator=str(about["generator"]),
            origin=str(about["origin"]),
        )


def _about(arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    found: dict[str, object] = json.loads(str(arrays["about"][()]))
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']!r}, this software reads {FORMAT}")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a file; each is read when it is used. Whatever fails inside is an error of the file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, TypeError, KeyError, BadZipFile, EOFError, AttributeError) as error:
        raise ConfigError(
            f"score.population {path}: expected a file of 'spinmeround screen population', found {error}; fit it again"
        ) from error
