"""The files of a calibration.

verdict.json        the learned verdict, unless limits were fitted
screening.toml      the path of the verdict, or the limits, as the `[screen]` section of a profile
calibration.json    all figures
calibration.html    a page with the curve of recall against loss, drop rates, and the histogram of each score
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spinmeround.models.screening.calibration import CurvePoint
from spinmeround.models.screening.scores import SCORES
from spinmeround.models.screening.verdict import ScoreCurve
from spinmeround.storage.files import write_atomic
from spinmeround.storage.numbers import json_text
from spinmeround.storage.provenance import code_version
from spinmeround.tasks.html import template
from spinmeround.tasks.screening.calibrate import Calibration, Label, screen_toml

CLEAN_COLOUR, DEFECTIVE_COLOUR = "#3565a8", "#c2410c"

BINS = 30

Scores = Sequence[Mapping[str, float | None]]
"""Scores of each head by name; None if a score could not be measured."""


def write_calibration(calibration: Calibration, scores: Scores, labels: Sequence[Label], folder: Path) -> list[Path]:
    """Write the files to `folder`, and return their paths."""
    verdict = folder / "verdict.json"
    files = {} if calibration.verdict is None else {verdict: verdict_json(calibration)}
    files |= {
        folder / "screening.toml": screen_toml(calibration, verdict),
        folder / "calibration.json": json_text(_figures(calibration), "calibration"),
        folder / "calibration.html": render_calibration(calibration, scores, labels),
    }
    for path, text in files.items():
        write_atomic(path, text.encode())
    return list(files)


def verdict_json(calibration: Calibration) -> str:
    """The content of the verdict file."""
    if calibration.verdict is None:
        raise ValueError("expected a learned verdict, got limits")
    return json_text(calibration.verdict.model_dump(mode="json"), "verdict") + "\n"


def _figures(calibration: Calibration) -> dict[str, Any]:
    values: dict[str, Any] = asdict(replace(calibration, verdict=None))
    del values["verdict"]
    for name in ("lost", "caught"):
        rate = getattr(calibration.errors, name)
        values["errors"][name] |= {"share": rate.share, "interval": rate.interval}
    return values | {"code_version": code_version()}


def render_calibration(calibration: Calibration, scores: Scores, labels: Sequence[Label]) -> str:
    """The page as HTML, without external resources."""
    learned = {} if calibration.verdict is None else {each.score: each for each in calibration.verdict.curves}
    histograms = []
    for score in SCORES:
        limit, weight = calibration.limits.get(score.name), learned.get(score.name)
        picture = _histogram(*_by_label(score.name, scores, labels), limit, weight)
        histograms.append((score, limit, weight and max(weight.log_odds), picture))
    return template("calibration.html.j2").render(
        calibration=calibration, curve=_curve(calibration), histograms=histograms
    )


def _curve(calibration: Calibration) -> str:
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    _plot(axes, calibration.curve, "known kinds" if calibration.unseen else "labelled heads", "o-")
    if calibration.unseen:
        _plot(axes, calibration.unseen, "kinds that the fit has not seen", "s--")
    lost, caught = calibration.errors.lost, calibration.errors.caught
    chosen = (100 * lost.share, 100 * caught.share)
    spread = [
        [[100 * (rate.share - rate.interval[0])], [100 * (rate.interval[1] - rate.share)]] for rate in (lost, caught)
    ]
    axes.errorbar(*chosen, xerr=spread[0], yerr=spread[1], fmt="o", color=DEFECTIVE_COLOUR, markersize=9, capsize=3)
    axes.annotate("chosen", chosen, (6, -14), textcoords="offset points")
    axes.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("clean heads dropped, %")
    axes.set_ylabel("defective heads dropped, %")
    axes.grid(alpha=0.3)
    return _svg(figure)


def _plot(axes: Axes, curve: Sequence[CurvePoint], label: str, style: str) -> None:
    points = sorted(curve, key=lambda point: point.lost)
    lost, caught = ([100 * getattr(point, name) for point in points] for name in ("lost", "caught"))
    axes.plot(lost, caught, style, color=CLEAN_COLOUR, label=label, alpha=1.0 if style == "o-" else 0.55)


def _by_label(name: str, scores: Scores, labels: Sequence[Label]) -> tuple[list[float], list[float]]:
    """The measured values of a score, of clean and of defective heads."""
    values: tuple[list[float], list[float]] = ([], [])
    for row, label in zip(scores, labels, strict=True):
        if (value := row.get(name)) is not None:
            values[label.defective].append(value)
    return values


def _histogram(clean: list[float], defective: list[float], limit: float | None, weight: ScoreCurve | None) -> str:
    """Shares of both groups from the lower 1% quantile to the upper 95%; outer bins include the values beyond.

    The weight of the score in a learned verdict is drawn over them, on an axis of its own.
    """
    figure = Figure(figsize=(3.4, 1.7), layout="constrained")
    axes = figure.subplots()
    groups = [
        (np.asarray(values), colour)
        for values, colour in ((clean, CLEAN_COLOUR), (defective, DEFECTIVE_COLOUR))
        if values
    ]
    if groups:
        low = min(float(np.quantile(values, 0.01)) for values, _ in groups)
        high = max(float(np.quantile(values, 0.95)) for values, _ in groups)
        edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
        for values, colour in groups:
            share = np.full(len(values), 100.0 / len(values))
            axes.hist(np.clip(values, edges[0], edges[-1]), bins=list(edges), weights=share, color=colour, alpha=0.55)
        if limit is not None:
            axes.axvline(float(np.clip(limit, edges[0], edges[-1])), color="black", linewidth=1, linestyle="--")
        if weight is not None:
            _draw_weight(axes, weight, edges)
    _style(axes)
    return _svg(figure)


def _draw_weight(axes: Axes, weight: ScoreCurve, edges: np.ndarray) -> None:
    inside = [knot for knot in weight.knots if edges[0] < knot < edges[-1]]
    at = np.array([edges[0], *inside, edges[-1]])
    own = axes.twinx()
    own.plot(at, weight.at(at), color="black", linewidth=1)
    own.tick_params(labelsize=7)


def _style(axes: Axes) -> None:
    axes.set_yscale("symlog", linthresh=1.0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    axes.tick_params(labelsize=7)
    axes.xaxis.get_offset_text().set_fontsize(7)


def _svg(figure: Figure) -> str:
    """The figure as inline SVG; the same figure gives the same text."""
    out = StringIO()
    with rc_context({"svg.hashsalt": "spinmeround", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
