"""Contact sheets of a generator: seeds, interpolation strips, known defects, and the command `heads`."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.pictures.gallery import (
    defects_sheet,
    interpolated_heads,
    seeds_sheet,
    strip_sheet,
)
from spinmeround.tasks.pictures.params import GalleryParams, parse_seeds
from tests.support.tiny import TinyGenerator

SMALL = GalleryParams(resolution=32, columns=3, azimuths_deg=(0.0, 180.0))


def test_sheet_shows_each_seed_from_each_azimuth():
    """Cells contain the rendered pictures of each seed, side by side."""
    generator = TinyGenerator()
    sheet = np.asarray(seeds_sheet(generator, (0, 1, 2, 3), SMALL))
    cameras = orbit([0.0, 180.0], [0.0, 0.0])
    for seed in (0, 3):
        front, back = generator.render(generator.sample(seed), cameras, 32).rgb
        cell = np.concatenate([front, back], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(sheet, cell.shape)[:, :, 0]
        assert (windows == cell).all(axis=(2, 3, 4)).any()


def test_strip_includes_both_ends():
    """The first and last heads are those of the seeds, and the sheet has one row."""
    generator = ProceduralGenerator()
    heads = interpolated_heads(generator, (1, 2), 5)
    np.testing.assert_array_equal(heads[0].latent, generator.sample(1).latent)
    np.testing.assert_array_equal(heads[-1].latent, generator.sample(2).latent)
    sheet = strip_sheet(generator, (1, 2), 2, GalleryParams(resolution=16))
    assert sheet.width > sheet.height / 2


def test_unsupported_sheets_are_refused():
    """A strip needs `interpolate`, a sheet of defects the procedural generator; errors name the generator."""
    with pytest.raises(ConfigError, match="'tiny' has none"):
        strip_sheet(TinyGenerator(), (0, 1), 9, SMALL)
    with pytest.raises(ConfigError, match="expected the procedural generator, got 'tiny'"):
        defects_sheet(TinyGenerator(), 0, SMALL)


@pytest.mark.parametrize(("text", "seeds"), [("0:3", (0, 1, 2)), ("7", (7,)), ("3,5,12", (3, 5, 12))])
def test_seeds_are_ranges_or_lists(text, seeds):
    """FIRST:END excludes END; commas separate seeds."""
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "5:5", "a:b", "-3", "1;2"])
def test_invalid_seeds_are_refused(text):
    """The error has the expected form."""
    with pytest.raises(ConfigError, match="seeds: expected a range FIRST:END"):
        parse_seeds(text)


def test_command_writes_the_sheet_of_any_generator(tmp_path):
    """`spinmeround heads` accepts a generator by its factory, and refuses an unknown suffix before it renders."""
    options = ["heads", "--seeds", "0:2", "--resolution", "16", "--set", "generator.name='tests.support.tiny:make'"]
    done = CliRunner().invoke(app, [*options, "--to", str(tmp_path / "heads.png")])
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "heads.png") as sheet:
        assert sheet.width > 32
    refused = CliRunner().invoke(app, [*options, "--to", str(tmp_path / "heads.gif")])
    assert refused.exit_code == 2
    assert "heads.gif" in refused.output
