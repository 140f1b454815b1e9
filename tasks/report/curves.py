"""Loss curves as inline SVG drawings, styled by the page.

The vertical axis is logarithmic. Dots are the recorded losses, the line is their Gaussian mean in log space with a
standard deviation of `SMOOTHING` times the number of records. Smoothing is needed because the loss of a diffusion
model depends on the noise level drawn at each step. Each training phase is smoothed on its own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy.ndimage import gaussian_filter1d

from spinmeround.tasks.report.data import LossCurve

SMOOTHING = 0.02
"""Standard deviation of the smoothing, as a fraction of the number of records."""

SIZES = ((880, 300), (350, 240))
"""(width, height) of the drawings for wide and narrow pages, in pixels."""

LETTER_WIDTH = 7
"""Estimated width of a letter in a label, in pixels."""

MAX_POINTS = 500
"""Maximum number of points drawn; longer runs are subsampled evenly after smoothing."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick of an axis: its position in the drawing, in pixels, and its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class CurveDrawing:
    """One drawing of a curve; positions are in pixels from its upper left corner."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    dots: str
    lines: tuple[str, ...]
    phases: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: str
    """JSON list of [x, y, step, smoothed loss], for the value shown under the pointer."""


@dataclass(frozen=True, kw_only=True)
class PhaseRange:
    """The smoothed loss at the first and last record of a phase; `name` is empty for a run with one phase."""

    name: str
    first: float
    last: float

    @property
    def text(self) -> str:
        """The range in words: "multi view 0.67 to 0.5"."""
        return f"{self.name} {self.first:.3g} to {self.last:.3g}".lstrip()


@dataclass(frozen=True, kw_only=True)
class CurveSummary:
    """A curve in numbers, and its drawings for wide and narrow pages.

    `values` are rows of (step, loss, smoothed loss).
    """

    name: str
    records: int
    not_finite: int
    ranges: tuple[PhaseRange, ...]
    values: tuple[tuple[int, float, float], ...]
    drawings: tuple[CurveDrawing, ...]


def smoothed(
    loss: Float[np.ndarray, " record"], phase: Int[np.ndarray, " record"] | None = None
) -> Float[np.ndarray, " record"]:
    """The exponential of the Gaussian mean of log loss, within each stretch of equal `phase`; losses are positive."""
    width = max(len(loss) * SMOOTHING, 1.0)
    starts = np.flatnonzero(np.diff(np.zeros(len(loss)) if phase is None else phase)) + 1
    parts = np.split(np.log(loss), starts)
    means = [np.asarray(gaussian_filter1d(part, width, mode="nearest")) for part in parts]
    return np.asarray(np.exp(np.concatenate(means)))


def curve_summary(curve: LossCurve) -> CurveSummary | None:
    """The curve in numbers and drawings, or None if it has fewer than two finite, positive losses."""
    usable = np.isfinite(curve.loss) & (curve.loss > 0)
    step, loss = curve.step[usable].astype(np.float64), curve.loss[usable].astype(np.float64)
    if len(loss) < 2 or step[0] == step[-1]:
        return None
    ends = np.array([end for _, end in curve.phases[:-1]], np.float64)
    phase = np.searchsorted(ends, step)
    mean = smoothed(loss, phase)
    names = tuple(name for name, _ in curve.phases) if len(curve.phases) > 1 else ()
    rows = np.unique(np.linspace(0, len(loss) - 1, 9).round().astype(int))
    return CurveSummary(
        name=curve.name,
        records=len(curve.loss),
        not_finite=int(len(usable) - usable.sum()),
        ranges=_ranges(mean, phase, names),
        values=tuple((int(step[row]), float(loss[row]), float(mean[row])) for row in rows),
        drawings=tuple(draw(step, loss, mean, phase, names, width=width, height=height) for width, height in SIZES),
    )


def _ranges(
    mean: Float[np.ndarray, " record"], phase: Int[np.ndarray, " record"], names: tuple[str, ...]
) -> tuple[PhaseRange, ...]:
    parts = [(part, mean[phase == part]) for part in np.unique(phase)]
    return tuple(
        PhaseRange(name=names[part] if names else "", first=float(values[0]), last=float(values[-1]))
        for part, values in parts
    )


def draw(
    step: Float[np.ndarray, " record"],
    loss: Float[np.ndarray, " record"],
    mean: Float[np.ndarray, " record"],
    phase: Int[np.ndarray, " record"],
    phases: tuple[str, ...] = (),
    *,
    width: int,
    height: int,
) -> CurveDrawing:
    """Positions of the dots, lines and ticks in a drawing of the given size, in pixels.

    `phase` is the index of each record's phase in `phases`; each phase is labelled at its start.
    """
    left, right, top, bottom = 52, width - 20, 24 if phases else 12, height - 40
    low, high = _loss_range(loss)
    across = _scale(step[0], step[-1], left, right)
    up = _scale(np.log(low), np.log(high), bottom, top)
    thin = np.unique(np.linspace(0, len(step) - 1, min(len(step), MAX_POINTS)).round().astype(int))
    x, y, y_mean = across(step[thin]), up(np.log(loss[thin].clip(low, high))), up(np.log(mean[thin]))
    x_ticks = MaxNLocator(nbins=max(width // 110, 3), steps=[1, 2, 5, 10], integer=True).tick_values(step[0], step[-1])
    y_ticks = LogLocator(subs=(1, 2, 5), numticks=8).tick_values(low, high)
    return CurveDrawing(
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        dots=" ".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True)),
        lines=tuple(_line(x[phase[thin] == part], y_mean[phase[thin] == part]) for part in np.unique(phase[thin])),
        phases=_phase_ticks(x, phase[thin], phases, right),
        x_ticks=tuple(Tick(at=across(t), label=f"{t:,.0f}") for t in x_ticks if step[0] <= t <= step[-1]),
        y_ticks=tuple(Tick(at=up(np.log(t)), label=f"{t:g}") for t in y_ticks if low <= t <= high),
        points=_points(x, y_mean, step[thin], mean[thin]),
    )


def _loss_range(loss: Float[np.ndarray, " record"]) -> tuple[float, float]:
    """Limits of the vertical axis: 99.6% of the losses plus a margin of 10%, at least a factor of two in all."""
    low, high = (float(value) for value in np.quantile(loss, [0.002, 0.998]))
    middle = np.sqrt(low * high)
    return min(low / 1.1, middle / np.sqrt(2)), max(high * 1.1, middle * np.sqrt(2))


def _phase_ticks(
    x: Float[np.ndarray, " point"], phase: Int[np.ndarray, " point"], names: tuple[str, ...], right: float
) -> tuple[Tick, ...]:
    """The start of each phase, labelled if its name fits before the next phase."""
    parts = [part for part in range(len(names)) if part in phase]
    starts = [float(x[phase == part][0]) for part in parts]
    widths = np.diff([*starts, right])
    return tuple(
        Tick(at=start, label=names[part] if width > LETTER_WIDTH * len(names[part]) else "")
        for part, start, width in zip(parts, starts, widths, strict=True)
    )


def _line(x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _points(*columns: Float[np.ndarray, " point"]) -> str:
    """The columns as a JSON list of rows: four significant digits, and integers from 1000 up."""
    rows = zip(*columns, strict=True)
    return json.dumps(
        [[round(value) if value >= 1000 else float(f"{value:.4g}") for value in row] for row in rows], allow_nan=False
    )


def _scale(start: float, end: float, from_pixel: float, to_pixel: float) -> Callable[[Any], Any]:
    """The linear map of numbers or arrays that takes `start` to `from_pixel` and `end` to `to_pixel`."""
    return lambda value: from_pixel + (value - start) * (to_pixel - from_pixel) / (end - start)
