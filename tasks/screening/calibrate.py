"""Calibrate: limits of the screen's scores from labelled heads, with what they can be expected to do.

Labels are a generator's own truth, where it knows it, or a person's decisions from a review. Written are
`screening.toml`, to be pasted into a profile; `calibration.json`, all figures; and `calibration.html`, the
same to look at: the curve of what is caught against what is lost, and where each limit lies.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import Field, ValidationError, model_validator

from spinmeround.models.screening.calibration import (
    CurvePoint,
    LabelledScores,
    choose_limits,
    cross_validated,
    dropped,
    pick,
)
from spinmeround.models.screening.scores import SCORES
from spinmeround.panohead_bridge.protocol import HeadGenerator, LabelledGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.files import write_atomic
from spinmeround.storage.provenance import code_version
from spinmeround.tasks.html import template
from spinmeround.tasks.stage import StageParams

STRENGTHS = ((0.0, 0.5), (0.5, 0.75), (0.75, 1.01))
"""Bands of a defect's strength in the tables."""


class CalibrateParams(StageParams):
    """What the limits are to reach, and whose labels they come from."""

    labels: str = Field("truth", description="'truth', where the generator knows its defects, or a decisions file")
    keep: float | None = Field(None, gt=0.0, le=1.0, description="Share of the sound heads to keep at least")
    recall: float | None = Field(None, gt=0.0, le=1.0, description="Share of the spoilt heads to drop at least")
    folds: int = Field(5, ge=2, le=50, description="Folds of the cross-validation")

    @model_validator(mode="after")
    def _one_aim(self) -> "CalibrateParams":
        if (self.keep is None) == (self.recall is None):
            raise ValueError("expected one of keep and recall")
        return self


def calibrate_params(labels: str, *, keep: float | None, recall: float | None) -> CalibrateParams:
    """The parameters of these options of the command line; raises ConfigError that names the wrong one."""
    if keep is not None and recall is not None:
        raise ConfigError(f"--keep {keep:g} --recall {recall:g}: expected one of them, got both")
    try:
        return CalibrateParams(labels=labels, keep=keep, recall=recall)
    except ValidationError as error:
        wrong = error.errors()[0]
        expected = wrong["msg"].removeprefix("Input should be ")
        raise ConfigError(f"--{wrong['loc'][0]}: expected {expected}, got {wrong['input']:g}") from error


@dataclass(frozen=True, kw_only=True)
class Label:
    """Whether a head is spoilt; of which kind and how strongly, where that is known."""

    spoilt: bool
    kind: str = ""
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class CaughtRow:
    """How many heads of one kind and band of strength the limits drop."""

    kind: str
    strength: str
    heads: int
    dropped: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Limits, the point of the curve that they were chosen at, and what they do to the labelled heads."""

    limits: dict[str, float]
    chosen: CurvePoint
    curve: tuple[CurvePoint, ...]
    rows: tuple[CaughtRow, ...]
    sound: int
    spoilt: int
    generator: str
    origin: str


def truth(generator: HeadGenerator, seeds: Sequence[int]) -> list[Label]:
    """The generator's own labels of these seeds.

    Raises ConfigError where it knows none.
    """
    if not isinstance(generator, LabelledGenerator):
        raise ConfigError(
            f"labels: the generator {generator.name!r} does not know its defects; review its heads and give the "
            "decisions file with --labels"
        )
    faults = [generator.defect(generator.sample(seed)) for seed in seeds]
    return [Label(spoilt=False) if f is None else Label(spoilt=True, kind=f.kind, strength=f.strength) for f in faults]


def calibrate(
    scores: Sequence[Mapping[str, float | None]],
    labels: Sequence[Label],
    params: CalibrateParams,
    *,
    generator: str,
    heads: str,
) -> Calibration:
    """Limits for these labelled scores of a generator's heads; `heads` says in words which ones.

    Raises ConfigError where one sort of label is missing, or no limits reach what is wanted.
    """
    found = LabelledScores.of(scores, [label.spoilt for label in labels])
    spoilt = int(found.spoilt.sum())
    sound = len(found.spoilt) - spoilt
    if min(sound, spoilt) < params.folds:
        raise ConfigError(
            f"labels: expected at least {params.folds} sound and {params.folds} spoilt heads, found {sound} and "
            f"{spoilt}; label more heads"
        )
    curve = cross_validated(found, params.folds)
    try:
        chosen = pick(curve, keep=params.keep, catch=params.recall)
    except ValueError as error:
        raise ConfigError(f"calibrate: {error}; ask for less, or label more heads") from error
    limits = choose_limits(found, chosen.allowed)
    origin = (
        f"{heads}; {sound} sound and {spoilt} spoilt by {params.labels}; cross-validated: keeps "
        f"{1 - chosen.lost:.1%} of the sound, drops {chosen.caught:.1%} of the spoilt"
    )
    return Calibration(
        limits=limits,
        chosen=chosen,
        curve=tuple(curve),
        rows=tuple(caught_rows(dropped(found, limits), labels)),
        sound=sound,
        spoilt=spoilt,
        generator=generator,
        origin=origin,
    )


def caught_rows(gone: np.ndarray, labels: Sequence[Label]) -> list[CaughtRow]:
    """Dropped heads by kind of defect and band of strength; sound heads come first."""
    rows = [_row("none", "", [not label.spoilt for label in labels], gone)]
    for kind in sorted({label.kind for label in labels if label.spoilt}):
        for low, high in STRENGTHS:
            within = [
                label.spoilt and label.kind == kind and (label.strength is None or low <= label.strength < high)
                for label in labels
            ]
            if any(within):
                rows.append(_row(kind or "spoilt", f"{low:g} to {min(high, 1.0):g}", within, gone))
    return rows


def _row(kind: str, strength: str, within: Sequence[bool], gone: np.ndarray) -> CaughtRow:
    chosen = np.array(within, bool)
    return CaughtRow(kind=kind, strength=strength, heads=int(chosen.sum()), dropped=int(gone[chosen].sum()))


def toml(calibration: Calibration) -> str:
    """The limits as a profile has them."""
    told = [f"{name} = {json.dumps(getattr(calibration, name))}" for name in ("generator", "origin")]
    limits = [f"{name} = {limit:.6g}" for name, limit in calibration.limits.items()]
    return "\n".join(["[screen]", *told, "", "[screen.limits]", *limits, ""])


def write_calibration(
    calibration: Calibration, scores: Sequence[Mapping[str, float | None]], labels: Sequence[Label], folder: Path
) -> list[Path]:
    """Write the three files; returns their paths."""
    figures: dict[str, Any] = asdict(calibration) | {"code_version": code_version()}
    files = {
        folder / "screening.toml": toml(calibration),
        folder / "calibration.json": json.dumps(figures, indent=1),
        folder / "calibration.html": page(calibration, scores, labels),
    }
    for path, text in files.items():
        write_atomic(path, text.encode())
    return list(files)


def page(calibration: Calibration, scores: Sequence[Mapping[str, float | None]], labels: Sequence[Label]) -> str:
    """One self-contained page: the curve, the table of kinds, and each score's values beside its limit."""
    histograms = [
        (score, calibration.limits.get(score.name), _histogram(score.name, calibration, scores, labels))
        for score in SCORES
    ]
    return template("calibration.html.j2").render(
        calibration=calibration, curve=_curve(calibration), histograms=histograms
    )


def _curve(calibration: Calibration) -> str:
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    points = sorted(calibration.curve, key=lambda point: point.lost)
    axes.plot([100 * p.lost for p in points], [100 * p.caught for p in points], "o-", color="#3565a8")
    axes.plot(100 * calibration.chosen.lost, 100 * calibration.chosen.caught, "o", color="#c2410c", markersize=10)
    axes.annotate(
        "chosen", (100 * calibration.chosen.lost, 100 * calibration.chosen.caught), (6, -14), textcoords="offset points"
    )
    axes.set_xlabel("sound heads lost, %")
    axes.set_ylabel("spoilt heads dropped, %")
    axes.grid(alpha=0.3)
    return _svg(figure)


def _histogram(
    name: str, calibration: Calibration, scores: Sequence[Mapping[str, float | None]], labels: Sequence[Label]
) -> str:
    """Both kinds of heads over the range in which 98% of each lie; the rest is put into the outer bins."""
    groups = [
        [
            value
            for row, label in zip(scores, labels, strict=True)
            if label.spoilt is spoilt and (value := row.get(name)) is not None
        ]
        for spoilt in (False, True)
    ]
    figure = Figure(figsize=(3.4, 1.7), layout="constrained")
    axes = figure.subplots()
    known = [np.asarray(group) for group in groups if group]
    if known:
        low = min(float(np.quantile(group, 0.01)) for group in known)
        high = max(float(np.quantile(group, 0.95)) for group in known)
        bins = np.linspace(low, max(high, low + 1e-9), 31)
        for group, colour in zip(groups, ("#3565a8", "#c2410c"), strict=True):
            if group:
                share = np.full(len(group), 100.0 / len(group))
                axes.hist(np.clip(group, bins[0], bins[-1]), bins=list(bins), weights=share, color=colour, alpha=0.55)
        if (limit := calibration.limits.get(name)) is not None:
            axes.axvline(float(np.clip(limit, bins[0], bins[-1])), color="black", linewidth=1, linestyle="--")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    axes.tick_params(labelsize=7)
    axes.xaxis.get_offset_text().set_fontsize(7)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """The figure as inline SVG, the same each time."""
    out = StringIO()
    with rc_context({"svg.hashsalt": "spinmeround", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
