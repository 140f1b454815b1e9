"""Metrics by the azimuth of the view, as inline SVG drawings, styled by the page.

A dot is one view of one head as the model predicts it; the line is the mean over all views within `BIN_DEG` degrees,
and broken lines are those of the baselines and other methods. 0 is the front, 180 the back of the head.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from spinmeround.models.metrics.definitions import MetricDefinition, metric_of, signed_text
from spinmeround.tasks.report.curves import Tick
from spinmeround.tasks.report.data import ViewValues

BIN_DEG = 30.0
WIDTH, HEIGHT = 350, 210
LEFT, RIGHT, TOP, BOTTOM = 48, WIDTH - 10, 10, HEIGHT - 40


@dataclass(frozen=True, kw_only=True)
class AzimuthDrawing:
    """One metric; `others` are the lines of other predictions by name, `means` the model's by azimuth, as text."""

    metric: MetricDefinition
    dots: str
    line: str
    others: Mapping[str, str]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    means: tuple[tuple[str, str], ...]


def azimuth_drawing(views: ViewValues) -> AzimuthDrawing | None:
    """The drawing of one metric; None if the model has fewer than two values."""
    metric, azimuth = metric_of(views.metric), _wrapped(views.azimuth_deg)
    ours = views.values["model"]
    known = np.isfinite(ours)
    if known.sum() < 2:
        return None
    lines = {name: binned(azimuth, values) for name, values in views.values.items()}
    everything = np.concatenate([ours[known], *(mean[np.isfinite(mean)] for _, mean in lines.values())])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.06
    low, high = low - margin, high + margin
    centres, mean = lines["model"]
    return AzimuthDrawing(
        metric=metric,
        dots=" ".join(
            f"M{_x(a):.1f} {_y(v, low, high):.1f}h0" for a, v in zip(azimuth[known], ours[known], strict=True)
        ),
        line=_path(centres, mean, low, high),
        others={name: _path(*line, low, high) for name, line in lines.items() if name != "model"},
        x_ticks=tuple(Tick(at=_x(at), label=_degrees(at)) for at in (-180, -90, 0, 90, 180)),
        y_ticks=tuple(
            Tick(at=_y(at, low, high), label=signed_text(f"{at:g}"))
            for at in MaxNLocator(nbins=4).tick_values(low, high)
            if low <= at <= high
        ),
        means=tuple(
            (_degrees(at), metric.text(value)) for at, value in zip(centres, mean, strict=True) if np.isfinite(value)
        ),
    )


def binned(
    azimuth_deg: Float[np.ndarray, " view"], values: Float[np.ndarray, " view"]
) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
    """Centres of the bins from -180 to 180 degrees, and the mean of the values in each, NaN without any."""
    edges = np.arange(-180.0 - BIN_DEG / 2, 180.0 + BIN_DEG, BIN_DEG)
    centres = (edges[:-1] + edges[1:]) / 2
    place = np.round((_wrapped(azimuth_deg) + 180.0) / BIN_DEG).astype(int) % (len(centres) - 1)  # the ends are one bin
    known = np.isfinite(values)
    means = np.full(len(centres), np.nan)
    for each in np.unique(place[known]):
        means[each] = values[known & (place == each)].mean()
    means[-1] = means[0]
    return centres, means


def _wrapped(azimuth_deg: Float[np.ndarray, " view"]) -> Float[np.ndarray, " view"]:
    """Azimuths from -180 up to 180."""
    return np.asarray(np.mod(np.asarray(azimuth_deg, np.float64) + 180.0, 360.0) - 180.0)


def _path(centres: Float[np.ndarray, " bin"], mean: Float[np.ndarray, " bin"], low: float, high: float) -> str:
    """A line through the bins; a gap where a bin has no value."""
    words, drawing = [], False
    for at, value in zip(centres, mean, strict=True):
        if not np.isfinite(value):
            drawing = False
            continue
        words.append(f"{'L' if drawing else 'M'}{_x(at):.1f} {_y(value, low, high):.1f}")
        drawing = True
    return "".join(words)


def _degrees(azimuth_deg: float) -> str:
    return f"{signed_text(f'{azimuth_deg:+.0f}')}°" if azimuth_deg else "0°"


def _x(azimuth_deg: float) -> float:
    return LEFT + (azimuth_deg + 180.0) / 360.0 * (RIGHT - LEFT)


def _y(value: float, low: float, high: float) -> float:
    return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)
