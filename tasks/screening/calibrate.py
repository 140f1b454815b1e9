"""Calibration: limits of the screening scores from labelled heads, with their expected error rates.

Labels come from a generator that knows its defects, or from the decisions of a review. `calibration_page` writes the
results to files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from spinmeround.models.screening.calibration import (
    CurvePoint,
    LabelledScores,
    choose_limits,
    cross_validated,
    dropped,
    pick,
)
from spinmeround.panohead_bridge.protocol import HeadGenerator, LabelledGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.params import CalibrateParams

STRENGTHS = ((0.0, 0.5), (0.5, 0.75), (0.75, 1.01))
"""Ranges of defect strength in the table of drop rates, [low, high)."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """Whether a head is defective, and the kind and strength of its defect if known."""

    defective: bool
    kind: str = ""
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class DropRate:
    """The number of heads of one defect kind and range of strengths, and how many of them the limits drop."""

    kind: str
    strength: str
    heads: int
    dropped: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Limits by score name, the chosen point of the cross-validated curve, and drop rates on the labelled heads.

    `clean` and `defective` are numbers of heads; `origin` describes heads, labels and results in one line.
    """

    limits: dict[str, float]
    chosen: CurvePoint
    curve: tuple[CurvePoint, ...]
    rows: tuple[DropRate, ...]
    clean: int
    defective: int
    generator: str
    origin: str


def true_labels(generator: HeadGenerator, seeds: Sequence[int]) -> list[Label]:
    """The generator's labels of its heads with these seeds. Raises ConfigError if it does not know its defects."""
    if not isinstance(generator, LabelledGenerator):
        raise ConfigError(
            f"labels: the generator {generator.name!r} does not know its defects; review its heads, and pass the "
            "decisions file with --labels"
        )
    defects = [generator.defect(generator.sample(seed)) for seed in seeds]
    return [
        Label(defective=False) if defect is None else Label(defective=True, kind=defect.kind, strength=defect.strength)
        for defect in defects
    ]


def calibrate(
    scores: Sequence[Mapping[str, float | None]],
    labels: Sequence[Label],
    params: CalibrateParams,
    *,
    generator: str,
    heads: str,
) -> Calibration:
    """Fit limits to the scores and labels of a generator's heads; `heads` describes the heads in words.

    Raises ConfigError if there are fewer clean or defective heads than folds, or if no limits reach the target.
    """
    found = LabelledScores.of(scores, [label.defective for label in labels])
    defective = sum(label.defective for label in labels)
    clean = len(labels) - defective
    if min(clean, defective) < params.folds:
        raise ConfigError(
            f"labels: expected at least {params.folds} clean and {params.folds} defective heads, found {clean} and "
            f"{defective}; label more heads"
        )
    curve = cross_validated(found, params.folds)
    try:
        chosen = pick(curve, keep=params.keep, recall=params.recall)
    except ValueError as error:
        raise ConfigError(f"calibrate: {error}; lower the target, or label more heads") from error
    limits = choose_limits(found, chosen.allowed)
    origin = (
        f"{heads}; {clean} clean and {defective} defective by {params.labels}; cross-validated: keeps "
        f"{1 - chosen.lost:.1%} of the clean, drops {chosen.caught:.1%} of the defective"
    )
    return Calibration(
        limits=limits,
        chosen=chosen,
        curve=tuple(curve),
        rows=tuple(drop_rates(dropped(found, limits), labels)),
        clean=clean,
        defective=defective,
        generator=generator,
        origin=origin,
    )


def drop_rates(is_dropped: Bool[np.ndarray, " head"], labels: Sequence[Label]) -> list[DropRate]:
    """Dropped heads by defect kind and range of strengths; clean heads come first, as kind "none"."""
    rows = [_drop_rate("none", "", [not label.defective for label in labels], is_dropped)]
    for kind in sorted({label.kind for label in labels if label.defective}):
        for low, high in STRENGTHS:
            chosen = [
                label.defective and label.kind == kind and (label.strength is None or low <= label.strength < high)
                for label in labels
            ]
            if any(chosen):
                rows.append(_drop_rate(kind or "defective", f"{low:g} to {min(high, 1.0):g}", chosen, is_dropped))
    return rows


def limits_toml(calibration: Calibration) -> str:
    """The limits as the `[screen]` section of a profile."""
    header = [f"{name} = {json.dumps(getattr(calibration, name), allow_nan=False)}" for name in ("generator", "origin")]
    limits = [f"{name} = {limit:.6g}" for name, limit in calibration.limits.items()]
    return "\n".join(["[screen]", *header, "", "[screen.limits]", *limits, ""])


def _drop_rate(kind: str, strength: str, chosen: Sequence[bool], is_dropped: Bool[np.ndarray, " head"]) -> DropRate:
    selected = is_dropped[np.array(chosen, bool)]
    return DropRate(kind=kind, strength=strength, heads=len(selected), dropped=int(selected.sum()))
