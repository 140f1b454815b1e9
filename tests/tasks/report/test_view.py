from dataclasses import replace

import numpy as np
import pytest

from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.view import angle, novel_figure
from tests.tasks.report.synthetic import novel_views


@pytest.mark.parametrize(
    ("azimuth", "elevation", "text"),
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
def test_angle_as_text(azimuth: float, elevation: float, text: str):
    """Azimuths are in (-180, 180] with U+2212 for minus; an elevation of 0 is left out."""
    assert angle(azimuth, elevation) == text


def test_generated_views_are_sorted_by_azimuth():
    """Pictures are sorted together with their angles, whatever the order in the evaluation."""
    views = novel_views(1)
    order = np.random.default_rng(0).permutation(len(views.azimuth_deg))
    arrays = ("generated_rgb", "true_rgb", "generated_normals", "true_normals", "azimuth_deg", "elevation_deg")
    psnr = {name: tuple(values[view] for view in order) for name, values in views.psnr.items()}
    shuffled = replace(views, psnr=psnr, **{name: getattr(views, name)[order] for name in arrays})
    figure = novel_figure(shuffled, ReportParams())
    assert figure.angles == ("−135°", "−90°", "−45°", "+45°", "+90°", "+135°", "180°")
    assert figure == novel_figure(views, ReportParams())


def test_metrics_of_a_head_have_units():
    """Single values are followed by their unit."""
    metrics = dict(novel_figure(novel_views(1), ReportParams()).metrics)
    assert (metrics["PSNR"], metrics["normal angular error"]) == ("17.31 dB", "14.2°")


def test_head_without_an_input_view_has_a_figure():
    """A head generated from its identity alone has no input pictures."""
    views = novel_views(1)
    bare = replace(views, input_rgb=views.input_rgb[:0], input_azimuth_deg=np.zeros(0), input_elevation_deg=np.zeros(0))
    assert novel_figure(bare, ReportParams()).inputs == ()
