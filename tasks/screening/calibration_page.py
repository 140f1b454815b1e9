"""The files of a calibration.

screening.toml      the limits, as the `[screen]` section of a profile
calibration.json    all figures
calibration.html    a page with the curve of recall against loss, drop rates, and the histogram of each score
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spinmeround.models.screening.scores import SCORES
from spinmeround.storage.files import write_atomic
from spinmeround.storage.numbers import json_text
from spinmeround.storage.provenance import code_version
from spinmeround.tasks.html import template
from spinmeround.tasks.screening.calibrate import Calibration, Label, limits_toml

CLEAN_COLOUR, DEFECTIVE_COLOUR = "#3565a8", "#c2410c"

BINS = 30

Scores = Sequence[Mapping[str, float | None]]
"""Scores of each head by name; None if a score could not be measured."""


def write_calibration(calibration: Calibration, scores: Scores, labels: Sequence[Label], folder: Path) -> list[Path]:
    """Write the three files to `folder`, and return their paths."""
    figures: dict[str, Any] = asdict(calibration) | {"code_version": code_version()}
    files = {
        folder / "screening.toml": limits_toml(calibration),
        folder / "calibration.json": json_text(figures, "calibration"),
        folder / "calibration.html": render_calibration(calibration, scores, labels),
    }
    for path, text in files.items():
        write_atomic(path, text.encode())
    return list(files)


def render_calibration(calibration: Calibration, scores: Scores, labels: Sequence[Label]) -> str:
    """The page as HTML, without external resources."""
    histograms = []
    for score in SCORES:
        limit = calibration.limits.get(score.name)
        histograms.append((score, limit, _histogram(*_by_label(score.name, scores, labels), limit)))
    return template("calibration.html.j2").render(
        calibration=calibration, curve=_curve(calibration), histograms=histograms
    )


def _curve(calibration: Calibration) -> str:
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    points = sorted(calibration.curve, key=lambda point: point.lost)
    axes.plot([100 * p.lost for p in points], [100 * p.caught for p in points], "o-", color=CLEAN_COLOUR)
    chosen = (100 * calibration.chosen.lost, 100 * calibration.chosen.caught)
    axes.plot(*chosen, "o", color=DEFECTIVE_COLOUR, markersize=10)
    axes.annotate("chosen", chosen, (6, -14), textcoords="offset points")
    axes.set_xlabel("clean heads dropped, %")
    axes.set_ylabel("defective heads dropped, %")
    axes.grid(alpha=0.3)
    return _svg(figure)


def _by_label(name: str, scores: Scores, labels: Sequence[Label]) -> tuple[list[float], list[float]]:
    """The measured values of a score, of clean and of defective heads."""
    values: tuple[list[float], list[float]] = ([], [])
    for row, label in zip(scores, labels, strict=True):
        if (value := row.get(name)) is not None:
            values[label.defective].append(value)
    return values


def _histogram(clean: list[float], defective: list[float], limit: float | None) -> str:
    """Shares of both groups from the lower 1% quantile to the upper 95%; outer bins include the values beyond."""
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
    _style(axes)
    return _svg(figure)


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
