"""Loss curves as small inline SVG drawings that take their colours and fonts from the page.

The vertical axis is logarithmic; the raw losses are dots, the line is their smoothed value: a Gaussian
mean of the logarithm over `SMOOTHING` of the run, phase by phase, since the loss of a diffusion model
depends on the noise level that was drawn for the step.
"""

import json
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy.ndimage import gaussian_filter1d

from spinmeround.tasks.report.data import LossCurve

SMOOTHING = 0.02
"""Standard deviation of the smoothing, as a share of the records."""

SIZES = ((880, 300), (350, 240))
"""Width and height of the drawings for wide and for narrow pages, in pixels."""

LETTER = 7
"""Width that a letter of a label may take, in pixels."""

POINTS = 500
"""Most records that are drawn; a longer run is thinned evenly after smoothing."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line of an axis: its place in the drawing, in pixels, and its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class CurveDrawing:
    """One drawing of a curve: places in pixels from its upper left corner."""

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
    """JSON list of [x, y, step, smoothed loss], for the read-out under the pointer."""


@dataclass(frozen=True, kw_only=True)
class CurveSummary:
    """What a curve says in words, and the drawings of it for wide and narrow pages."""

    name: str
    records: int
    not_finite: int
    first: float
    last: float
    values: tuple[tuple[int, float, float], ...]
    drawings: tuple[CurveDrawing, ...]


def smoothed(
    loss: Float[np.ndarray, " record"], phase: Int[np.ndarray, " record"] | None = None
) -> Float[np.ndarray, " record"]:
    """Gaussian mean of log loss along the run, within each run of equal `phase`; of positive values."""
    width = max(len(loss) * SMOOTHING, 1.0)
    starts = np.flatnonzero(np.diff(np.zeros(len(loss)) if phase is None else phase)) + 1
    parts = np.split(np.log(loss), starts)
    return np.exp(np.concatenate([gaussian_filter1d(part, width, mode="nearest") for part in parts]))


def curve_summary(curve: LossCurve) -> CurveSummary | None:
    """The curve in numbers and drawings, or None where it has fewer than two finite, positive losses."""
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
        first=float(mean[0]),
        last=float(mean[-1]),
        values=tuple((int(step[row]), float(loss[row]), float(mean[row])) for row in rows),
        drawings=tuple(draw(step, loss, mean, phase, names, width=width, height=height) for width, height in SIZES),
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
    """Places of the dots, the lines and the ticks in a drawing of the given size, in pixels.

    `phase` is the index of each record's phase in `phases`, which are labelled where they begin.
    """
    left, right, top, bottom = 52, width - 20, 24 if phases else 12, height - 40
    low, high = _decent_range(loss)
    across = _scale(step[0], step[-1], left, right)
    up = _scale(np.log(low), np.log(high), bottom, top)
    thin = np.unique(np.linspace(0, len(step) - 1, min(len(step), POINTS)).round().astype(int))
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


def _decent_range(loss: Float[np.ndarray, " record"]) -> tuple[float, float]:
    """Limits of the vertical axis: nearly all losses, a little air, and never less than a factor of two."""
    low, high = (float(value) for value in np.quantile(loss, [0.002, 0.998]))
    middle = np.sqrt(low * high)
    return min(low / 1.1, middle / np.sqrt(2)), max(high * 1.1, middle * np.sqrt(2))


def _phase_ticks(
    x: Float[np.ndarray, " point"], phase: Int[np.ndarray, " point"], names: tuple[str, ...], right: float
) -> tuple[Tick, ...]:
    """Where each phase begins, with its name if there is room for it before the next one."""
    parts = [part for part in range(len(names)) if part in phase]
    starts = [float(x[phase == part][0]) for part in parts]
    rooms = np.diff([*starts, right])
    return tuple(
        Tick(at=start, label=names[part] if room > LETTER * len(names[part]) else "")
        for part, start, room in zip(parts, starts, rooms, strict=True)
    )


def _line(x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _points(*columns: Float[np.ndarray, " point"]) -> str:
    """The columns as a JSON list of rows, numbers to four significant digits but whole where they are large."""
    rows = zip(*columns, strict=True)
    return json.dumps([[round(value) if value >= 1000 else float(f"{value:.4g}") for value in row] for row in rows])


def _scale(start: float, end: float, from_pixel: float, to_pixel: float):
    """The straight map that takes `start` to `from_pixel` and `end` to `to_pixel`."""
    return lambda value: from_pixel + (value - start) * (to_pixel - from_pixel) / (end - start)
