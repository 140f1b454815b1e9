from dataclasses import replace

import numpy as np
import pytest

from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.view import angle, novel_figure
from tests.tasks.report.synthetic import novel_views


@pytest.mark.parametrize(
    ("azimuth", "elevation", "words"),
    [
        (0.0, 0.0, "0°"),
        (360.0, 0.0, "0°"),
        (90.0, 0.0, "+90°"),
        (270.0, 0.0, "−90°"),
        (180.0, 0.0, "180°"),
        (-180.0, 0.0, "180°"),
        (172.8, 15.0, "+172.8°, +15°"),
        (187.2, -30.0, "−172.8°, −30°"),
        (359.99, 0.01, "0°"),
    ],
)
def test_angles_in_words(azimuth: float, elevation: float, words: str):
    """Azimuths are within half a turn of the front, with a true minus; level elevations are not said."""
    assert angle(azimuth, elevation) == words


def test_generated_views_go_from_left_to_right_round_the_head():
    """Columns are sorted by azimuth, pictures along with their angles, however the evaluation drew them."""
    views = novel_views(1)
    order = np.random.default_rng(0).permutation(len(views.azimuth_deg))
    arrays = ("generated_rgb", "true_rgb", "generated_normals", "true_normals", "azimuth_deg", "elevation_deg")
    shuffled = replace(views, **{name: getattr(views, name)[order] for name in arrays})
    figure = novel_figure(shuffled, ReportParams())
    assert figure.angles == ("−135°", "−90°", "−45°", "+45°", "+90°", "+135°", "180°")
    assert figure == novel_figure(views, ReportParams())


def test_head_without_a_given_view_has_a_figure():
    """From the identity alone: there is nothing to show as given."""
    views = novel_views(1)
    bare = replace(views, input_rgb=views.input_rgb[:0], input_azimuth_deg=np.zeros(0), input_elevation_deg=np.zeros(0))
    assert novel_figure(bare, ReportParams()).inputs == ()
