"""Metrics by azimuth: bins, gaps, and the drawing."""

import numpy as np
import pytest

from spinmeround.tasks.report.azimuth import BOTTOM, TOP, azimuth_drawing, binned
from spinmeround.tasks.report.data import ViewValues


def test_a_bin_is_the_mean_of_its_views() -> None:
    """Views at 346, 0 and 14 degrees are one bin, the back is one from both sides, and others are empty."""
    azimuth = np.array([346.0, 0.0, 14.0, 170.0, -175.0, 90.0])
    centres, means = binned(azimuth, np.array([1.0, 2.0, 6.0, 10.0, 20.0, np.nan]))
    found = dict(zip(centres.tolist(), means.tolist(), strict=True))
    assert found[0.0] == 3.0
    assert found[180.0] == found[-180.0] == 15.0
    assert np.isnan(found[90.0])
    assert np.isfinite(means).sum() == 3


def test_the_drawing_has_all_views_and_a_line_for_each_prediction() -> None:
    """The best and the worst view are inside; a line has a gap where no view is; a metric without values has none."""
    azimuth = np.array([0.0, 30.0, 120.0, 180.0])
    ours, theirs = np.array([20.0, 18.0, 12.0, np.nan]), np.array([15.0, 15.0, 15.0, 15.0])
    drawing = azimuth_drawing(ViewValues(metric="psnr", azimuth_deg=azimuth, values={"model": ours, "mean": theirs}))
    assert drawing is not None
    heights = [float(dot.split(" ")[1].removesuffix("h0")) for dot in drawing.dots.split("M")[1:]]
    assert len(heights) == 3
    assert all(TOP < height < BOTTOM for height in heights)
    assert heights == sorted(heights)
    assert drawing.line.count("M") == 2
    assert drawing.others["mean"].count("M") == 4  # -180, 0 to 30, 120 and 180 degrees
    assert drawing.means == (("0°", "20.00"), ("+30°", "18.00"), ("+120°", "12.00"))
    assert [tick.label for tick in drawing.x_ticks] == ["−180°", "−90°", "0°", "+90°", "+180°"]
    nothing = ViewValues(metric="psnr", azimuth_deg=azimuth, values={"model": np.full(4, np.nan)})
    assert azimuth_drawing(nothing) is None


def test_equal_values_have_a_range() -> None:
    """A constant is drawn in the middle."""
    views = ViewValues(metric="ssim", azimuth_deg=np.array([0.0, 90.0]), values={"model": np.array([0.5, 0.5])})
    drawing = azimuth_drawing(views)
    assert drawing is not None
    assert float(drawing.dots.split(" ")[1].removesuffix("h0")) == pytest.approx((TOP + BOTTOM) / 2)
