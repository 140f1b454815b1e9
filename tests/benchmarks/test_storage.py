"""The storage benchmark on a tiny working set: every reader gives the same pixels, every table has its rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinmeround.storage.dataset import HeadDataset, publish
from spinmeround.storage.errors import ConfigError
from tests.benchmarks.storage import check_equal, main
from tests.support.heads import write_heads

TINY: dict[str, Any] = {
    "heads": 3,
    "rendered": 1,
    "views": 4,
    "wanted": 2,
    "pixels": 16,
    "latent": 4,
    "grain": 1.0,
    "samples": 4,
    "rounds": 1,
    "workers": 1,
    "batch": 2,
    "evicting": "fadvise",
    "write_pixels": 16,
    "write_views": 4,
}


@pytest.mark.slow
def test_the_complete_benchmark(tmp_path: Path) -> None:
    """Every installed reader has a speed in every mode; a missing one says how to install it."""
    tables = main(**TINY, only="pictures,latents,writing", cache=tmp_path)
    pictures, ratios, latents, latent_ratios, writing, stages = tables.values()
    assert {"ours", "zarr-python", "folder of PNG", "indexed tar of WebP"} <= {row["reader"] for row in pictures}
    for row in [*pictures, *latents]:
        speeds = [value for name, value in row.items() if name.startswith(("warm", "cold"))]
        missing = isinstance(speeds[0], str)
        assert ("missing" in speeds[0] or "cannot read" in speeds[0]) if missing else min(speeds) > 0
    assert all(row["warm, 1 process"] > 0 for row in [*ratios, *latent_ratios])
    assert all(row["views per second"] > 0 for row in writing)
    assert sum(row["share [%]"] for row in stages) == pytest.approx(100)


class Flipped:
    """A reader that flips images vertically, and gives planes."""

    name, missing = "upside down", None

    def __init__(self, dataset: HeadDataset, arrays: tuple[str, ...]) -> None:
        self.dataset, self.arrays = dataset, arrays

    def before_fork(self) -> None:
        pass

    def samples(self, seed: int) -> Iterator[dict[str, Any]]:
        found = self.dataset.read_views(1, [2, 0])
        flipped = {name: array[:, ::-1] if name in self.arrays else array for name, array in found.items()}
        planes = {name: flipped[name].transpose(0, 3, 1, 2).copy() for name in ("rgb", "normals")}
        yield {"subject": 1, "views": np.array([2, 0]), **planes}


def test_a_reader_with_other_pixels_is_an_error(tmp_path: Path) -> None:
    """The check before the measurement names the reader and the arrays that differ."""
    path = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), {}).path
    dataset = HeadDataset.open(path)
    check_equal([Flipped(dataset, ())], dataset, ("rgb", "normals"))
    with pytest.raises(ConfigError, match="upside down: normals differ"):
        check_equal([Flipped(dataset, ("normals",))], dataset, ("rgb", "normals"))


@pytest.mark.parametrize(("option", "value"), [("only", "pictures,speed"), ("evicting", "magic")])
def test_invalid_options_are_errors(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        main(**{**TINY, "only": "writing", option: value}, cache=tmp_path)
