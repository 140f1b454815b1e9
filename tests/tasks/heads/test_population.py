"""The file of a population, and the score stage that reads it."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.screening.population import fit_population
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.heads.population import PopulationFile, read_population, write_population
from spinmeround.tasks.heads.score import SCORE, ScoreParams, ScoreSections
from tests.models.screening.test_evidence_scores import population_heads


def sections(**score: object) -> ScoreSections:
    return ScoreSections(generator=GeneratorConfig(name="procedural"), score=ScoreParams(**score))


def written(path: Path, generator: str = "procedural") -> Path:
    file = PopulationFile(population=fit_population(population_heads(60)), generator=generator, origin="60 heads")
    write_population(path, file)
    return path


def test_a_written_population_is_read(tmp_path: Path) -> None:
    """Generator, origin and deviations survive the file, up to its rounding."""
    path = written(tmp_path / "population.npz")
    found = read_population(path)
    assert (found.generator, found.origin) == ("procedural", "60 heads")
    (one,) = population_heads(1, seed=4)
    expected = fit_population(population_heads(60)).deviations(one)
    np.testing.assert_allclose(found.population.deviations(one), expected, atol=0.05)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is no population is named with the command that writes one."""
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a file of 'spinmeround screen population'"):
        read_population(path)


def test_a_numpy_file_without_a_population_is_refused(tmp_path: Path) -> None:
    """An .npz with other arrays is not a population."""
    np.savez(tmp_path / "arrays.npz", rgb=np.zeros(3))
    with pytest.raises(ConfigError, match="expected a file of 'spinmeround screen population'"):
        read_population(tmp_path / "arrays.npz")


def test_the_population_is_part_of_the_key(tmp_path: Path) -> None:
    """Another population gives other fingerprints of the stage's weights; none gives none."""
    none = SCORE.bound(sections(population="none", detector="none")).weights
    embedded = SCORE.bound(sections(detector="none")).weights
    own = SCORE.bound(sections(population=str(written(tmp_path / "own.npz")), detector="none")).weights
    assert len({none, embedded, own}) == 3
    assert "population" not in none


def test_a_population_of_another_generator_is_refused(tmp_path: Path) -> None:
    """Heads are compared with heads of their own generator only, and a missing file is named."""
    path = written(tmp_path / "other.npz", generator="panohead")
    with pytest.raises(ConfigError, match="expected heads of the generator 'procedural', found those of 'panohead'"):
        SCORE.bound(sections(population=str(path), detector="none"))
    with pytest.raises(ConfigError, match="expected a file of 'spinmeround screen population', found none"):
        SCORE.bound(sections(population=str(tmp_path / "missing.npz"), detector="none"))


def test_the_shipped_population_is_one_of_procedural_heads() -> None:
    """The embedded file has the embedded generator's name and is small."""
    path = embedded_weights("population")
    assert read_population(path).generator == "procedural"
    assert path.stat().st_size < 1_500_000
