"""Calibration: a learned verdict, or limits of the scores, from labelled heads, with their expected error rates.

Labels come from a generator that knows its defects, from a person who labelled heads blindly, or from the decisions of
a review. `calibration_page` writes the results to files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from spinmeround.models.screening.calibration import (
    CurvePoint,
    LabelledScores,
    choose_limits,
    cross_validated,
    held_out_drops,
    pick,
)
from spinmeround.models.screening.learn import Learned, learn
from spinmeround.models.screening.threshold import Errors, Target
from spinmeround.models.screening.verdict import LearnedVerdict
from spinmeround.panohead_bridge.protocol import HeadGenerator, LabelledGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.params import CalibrateParams

STRENGTHS = ((0.0, 0.5), (0.5, 0.75), (0.75, 1.01))
"""Ranges of defect strength in the table of drop rates, [low, high)."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """Whether a head is defective, the kind and strength of its defect if known, and whether it was drawn at random."""

    defective: bool
    kind: str = ""
    strength: float | None = None
    at_random: bool = True


@dataclass(frozen=True, kw_only=True)
class DropRate:
    """The number of heads of one defect kind and range of strengths, and how many of them the limits drop."""

    kind: str
    strength: str
    heads: int
    dropped: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A learned verdict or limits by score name, with their error rates on heads that they were fitted without.

    `errors` counts the heads that were drawn at random. `curve` is recall against loss; `unseen` is that of kinds of
    defects that the fit has not seen, empty where the kinds are not known. `rows` counts all labelled heads. `origin`
    describes heads, labels and results in one line, `advice` is a line for each error rate.
    """

    method: str
    limits: dict[str, float]
    verdict: LearnedVerdict | None
    errors: Errors
    curve: tuple[CurvePoint, ...]
    unseen: tuple[CurvePoint, ...]
    rows: tuple[DropRate, ...]
    generator: str
    origin: str
    advice: tuple[str, ...]


def true_labels(generator: HeadGenerator, seeds: Sequence[int]) -> list[Label]:
    """The generator's labels of its heads with these seeds. Raises ConfigError if it does not know its defects."""
    if not isinstance(generator, LabelledGenerator):
        raise ConfigError(
            f"labels: the generator {generator.name!r} does not know its defects; label heads with 'spinmeround screen "
            "label', and pass the labels file with --labels"
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
    fingerprint: str,
    heads: str,
) -> Calibration:
    """Fit a verdict or limits to the scores and labels of a generator's heads; `heads` describes the heads in words.

    `generator` is the name in the profile.

    Raises ConfigError if there are fewer clean or defective heads than folds, or if no score tells them apart.
    """
    _check_numbers(labels, params.folds)
    found = LabelledScores.of(scores, [label.defective for label in labels])
    try:
        fit = _learn(found, labels, params) if params.method == "learned" else _limit(found, params)
    except ValueError as error:
        other = ", use --method learned" if params.method == "limits" else ""
        raise ConfigError(f"calibrate: {error}; lower the target{other}, or label more heads") from error
    at_random = np.array([label.at_random for label in labels])
    errors = Errors.of(fit.dropped[at_random], found.defective[at_random])
    origin = (
        f"{heads}; {errors.lost.trials} clean and {errors.caught.trials} defective by {params.labels}"
        + (f", and {(~at_random).sum()} not drawn at random" if not at_random.all() else "")
        + f"; cross-validated: keeps {1 - errors.lost.share:.1%} of the clean, drops {errors.caught.share:.1%} of the "
        "defective"
    )
    return Calibration(
        method=params.method,
        limits=fit.limits,
        verdict=fit.verdict(generator, fingerprint, origin),
        errors=errors,
        curve=fit.curve,
        unseen=fit.unseen,
        rows=tuple(drop_rates(fit.dropped, labels)),
        generator=generator,
        origin=origin,
        advice=tuple(_advice(errors, params)),
    )


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """What was fitted, and which of the labelled heads it drops when it has not seen them."""

    dropped: Bool[np.ndarray, " head"]
    curve: tuple[CurvePoint, ...]
    unseen: tuple[CurvePoint, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)
    learned: Learned | None = None

    def verdict(self, generator: str, fingerprint: str, origin: str) -> LearnedVerdict | None:
        """The learned verdict with the heads that it was fitted to; None for limits."""
        if self.learned is None:
            return None
        return LearnedVerdict(
            generator=generator,
            generator_fingerprint=fingerprint,
            origin=origin,
            intercept=self.learned.additive.intercept,
            threshold=self.learned.threshold,
            curves=self.learned.additive.curves,
        )


def _learn(heads: LabelledScores, labels: Sequence[Label], params: CalibrateParams) -> _Fit:
    learned = learn(
        heads,
        kinds=[label.kind for label in labels],
        at_random=np.array([label.at_random for label in labels]),
        target=Target(keep=params.keep, recall=params.recall),
        folds=params.folds,
    )
    return _Fit(dropped=learned.dropped, curve=learned.curve, unseen=learned.unseen, learned=learned)


def _limit(heads: LabelledScores, params: CalibrateParams) -> _Fit:
    curve = cross_validated(heads, params.folds)
    allowed = pick(curve, keep=params.keep, recall=params.recall).allowed
    return _Fit(
        dropped=held_out_drops(heads, allowed, params.folds),
        curve=tuple(curve),
        limits=choose_limits(heads, allowed),
    )


def _check_numbers(labels: Sequence[Label], folds: int) -> None:
    random = [label for label in labels if label.at_random]
    defective = sum(label.defective for label in random)
    clean = len(random) - defective
    if min(clean, defective) >= folds:
        return
    rarer = min(clean, defective)
    more = f"about {-(-(folds - rarer) * len(random) // rarer)} more heads" if rarer else "more heads"
    raise ConfigError(
        f"labels: expected at least {folds} clean and {folds} defective heads that were drawn at random, found {clean} "
        f"and {defective}; label {more}"
    )


def _advice(errors: Errors, params: CalibrateParams) -> list[str]:
    """One line for each error rate: its interval, and how many more labels would narrow it to `params.width`."""
    heads = errors.lost.trials + errors.caught.trials
    lines = []
    for name, rate in (("clean heads lost", errors.lost), ("defective heads dropped", errors.caught)):
        more = -(-rate.more_trials(params.width) * heads // rate.trials)
        lines.append(
            f"{name}: {rate.text()} at 95% confidence; "
            + (
                f"about {more:,} more random labels narrow this to {params.width:.1%}"
                if more
                else f"no wider than {params.width:.1%}"
            )
        )
    return lines


def drop_rates(is_dropped: Bool[np.ndarray, " head"], labels: Sequence[Label]) -> list[DropRate]:
    """Dropped heads by defect kind and range of strengths; clean heads come first, as kind "none".

    The strength of a defect is empty where it is not known, as in a person's labels.
    """
    rows = [_drop_rate("none", "", [not label.defective for label in labels], is_dropped)]
    for kind in sorted({label.kind for label in labels if label.defective}):
        own = [label.defective and label.kind == kind for label in labels]
        for low, high in STRENGTHS:
            chosen = [
                each and label.strength is not None and low <= label.strength < high
                for each, label in zip(own, labels, strict=True)
            ]
            if any(chosen):
                rows.append(_drop_rate(kind, f"{low:g} to {min(high, 1.0):g}", chosen, is_dropped))
        unknown = [each and label.strength is None for each, label in zip(own, labels, strict=True)]
        if any(unknown):
            rows.append(_drop_rate(kind or "defective", "", unknown, is_dropped))
    return rows


def screen_toml(calibration: Calibration, verdict: Path) -> str:
    """The limits, or the path of the learned verdict, as the `[screen]` section of a profile."""
    values = {"generator": calibration.generator, "origin": calibration.origin}
    if calibration.verdict is not None:
        values["verdict"] = str(verdict)
    header = [f"{name} = {json.dumps(value, allow_nan=False)}" for name, value in values.items()]
    limits = [f"{name} = {limit:.6g}" for name, limit in calibration.limits.items()]
    return "\n".join(["[screen]", *header, "", "[screen.limits]", *limits, ""])


def _drop_rate(kind: str, strength: str, chosen: Sequence[bool], is_dropped: Bool[np.ndarray, " head"]) -> DropRate:
    selected = is_dropped[np.array(chosen, bool)]
    return DropRate(kind=kind, strength=strength, heads=len(selected), dropped=int(selected.sum()))
