import json
from dataclasses import replace

import numpy as np
import pytest

from spinmeround.tasks.report.curves import curve_summary, draw, smoothed
from spinmeround.tasks.report.data import LossCurve
from tests.tasks.report.synthetic import loss_curve


def test_smoothing_keeps_an_exponential_decay_between_its_ends():
    """The mean is taken in log space, so an exponential decay is unchanged away from the ends."""
    loss = np.exp(-np.arange(400) / 80)
    np.testing.assert_allclose(smoothed(loss)[60:-60], loss[60:-60], rtol=1e-6)


def test_smoothing_removes_noise():
    """The smoothed curve has less than 0.3 times the error of the records."""
    step = np.arange(1, 601)
    truth = 0.12 + np.exp(-step / 120)
    loss = loss_curve().loss
    error = np.abs(np.log(smoothed(loss) / truth)).mean()
    assert error < 0.3 * np.abs(np.log(loss / truth)).mean()


def test_positions_follow_the_axes():
    """The first step is at the left end, the last at the right, and a lower loss is lower on the page."""
    step, loss = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.1, 0.01])
    drawing = draw(step, loss, loss, np.zeros(3, int), width=500, height=200)
    points = json.loads(drawing.points)
    assert (points[0][0], points[-1][0]) == (drawing.left, drawing.right)
    assert points[0][1] < points[1][1] < points[2][1]
    assert points[1][1] == pytest.approx((points[0][1] + points[2][1]) / 2, abs=0.2)
    assert all(drawing.top <= tick.at <= drawing.bottom for tick in drawing.y_ticks)
    assert [tick.label for tick in drawing.x_ticks] == ["1", "2", "3"]


def test_phases_are_smoothed_separately_and_labelled_at_their_start():
    """Smoothing does not cross the boundary between two phases."""
    step = np.arange(1.0, 201.0)
    curve = LossCurve(name="x", step=step, loss=np.where(step <= 80, 1.0, 0.1), phases=(("adapt", 80), ("many", 200)))
    summary = curve_summary(curve)
    assert summary is not None
    drawing = summary.drawings[0]
    means = np.array(json.loads(drawing.points))[:, 3]
    np.testing.assert_allclose(means, np.where(step <= 80, 1.0, 0.1))
    assert [phase.label for phase in drawing.phases] == ["adapt", "many"]
    assert len(drawing.lines) == 2
    assert [each.text for each in summary.ranges] == ["adapt 1 to 1", "many 0.1 to 0.1"]
    width = drawing.right - drawing.left
    assert drawing.phases[1].at == pytest.approx(drawing.left + width * 80 / 199, abs=1)


def test_long_runs_are_subsampled():
    """A drawing of 100,000 records has 500 points."""
    step = np.arange(100_000.0)
    drawing = draw(step, np.ones(100_000), np.ones(100_000), np.zeros(100_000, int), width=500, height=200)
    assert len(json.loads(drawing.points)) == 500


def test_losses_that_are_not_finite_are_omitted_and_counted():
    """NaN and infinity do not break the drawing, and the page states their number."""
    curve = loss_curve()
    loss = curve.loss.copy()
    loss[[3, 100]] = np.nan, np.inf
    summary = curve_summary(replace(curve, loss=loss))
    assert summary is not None
    assert summary.not_finite == 2
    assert np.isfinite([[each.first, each.last] for each in summary.ranges]).all()


@pytest.mark.parametrize("loss", [[], [0.5], [np.nan, np.nan, np.nan]], ids=["no record", "one record", "all NaN"])
def test_too_few_losses_give_no_curve(loss: list[float]):
    """Fewer than two finite losses make no line."""
    assert (
        curve_summary(LossCurve(name="x", step=np.arange(len(loss), dtype=float), loss=np.array(loss, float))) is None
    )
