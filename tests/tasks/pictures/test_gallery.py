"""Sheets of what a generator makes: any generator's seeds, strips of those that interpolate, known defects."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.pictures.gallery import (
    GalleryParams,
    between,
    defects_sheet,
    parse_seeds,
    seeds_sheet,
    strip_sheet,
)
from tests.support.tiny import TinyGenerator

SMALL = GalleryParams(resolution=32, columns=3, azimuths_deg=(0.0, 180.0))


def test_sheet_shows_each_seed_from_each_azimuth():
    """Cells hold the generator's own pictures, side by side, row by row."""
    generator = TinyGenerator()
    sheet = np.asarray(seeds_sheet(generator, (0, 1, 2, 3), SMALL))
    cameras = orbit([0.0, 180.0], [0.0, 0.0])
    for seed in (0, 3):
        front, back = generator.render(generator.sample(seed), cameras, 32).rgb
        cell = np.concatenate([front, back], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(sheet, cell.shape)[:, :, 0]
        assert (windows == cell).all(axis=(2, 3, 4)).any()


def test_strip_goes_from_head_to_head():
    """Both ends are the seeds' heads, and the sheet is one row of all steps."""
    generator = ProceduralGenerator()
    heads = between(generator, (1, 2), 5)
    np.testing.assert_array_equal(heads[0].latent, generator.sample(1).latent)
    np.testing.assert_array_equal(heads[-1].latent, generator.sample(2).latent)
    sheet = strip_sheet(generator, (1, 2), 2, GalleryParams(resolution=16))
    assert sheet.width > sheet.height / 2


def test_what_a_generator_cannot_do_is_said():
    """A strip or a sheet of defects of a generator without them is refused by name."""
    with pytest.raises(ConfigError, match="'tiny' has none"):
        strip_sheet(TinyGenerator(), (0, 1), 9, SMALL)
    with pytest.raises(ConfigError, match="whose defects are known; got 'tiny'"):
        defects_sheet(TinyGenerator(), 0, SMALL)


@pytest.mark.parametrize(("text", "seeds"), [("0:3", (0, 1, 2)), ("7", (7,)), ("3,5,12", (3, 5, 12))])
def test_seeds_are_ranges_or_lists(text, seeds):
    """FIRST:END leaves out the end; commas list seeds."""
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "5:5", "a:b", "-3", "1;2"])
def test_other_seeds_are_refused(text):
    """The error quotes what was given."""
    with pytest.raises(ConfigError, match="seeds: expected FIRST:END"):
        parse_seeds(text)


def test_command_writes_the_sheet_of_any_generator(tmp_path):
    """`spinmeround heads` shows a generator named by its factory; a wrong suffix is refused before any work."""
    options = ["heads", "--seeds", "0:2", "--resolution", "16", "--set", "generator.name='tests.support.tiny:make'"]
    done = CliRunner().invoke(app, [*options, "--to", str(tmp_path / "heads.png")])
    assert done.exit_code == 0, done.output
    assert Image.open(tmp_path / "heads.png").width > 32
    refused = CliRunner().invoke(app, [*options, "--to", str(tmp_path / "heads.gif")])
    assert refused.exit_code == 2
    assert "heads.gif" in refused.output
