"""What each part of the evidence contributes: recall of verdicts that are fitted without it, and with it alone.

A part is the module that computes a score, so a new module of scores is a new part.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinmeround.models.screening.calibration import LabelledScores
from spinmeround.models.screening.fit import FitSettings, fit_curves
from spinmeround.models.screening.measure import score_functions
from spinmeround.models.screening.scores import SCORES
from spinmeround.models.screening.threshold import threshold_for_loss

EVERYTHING = "all evidence"
REPORTED_LOSSES = (0.01, 0.03, 0.05)


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Recall of known and, if there are any, of held-out defects, each by the share of clean heads lost."""

    evidence: str
    known: Mapping[float, float]
    held_out: Mapping[float, float]


def evidence_parts() -> dict[str, tuple[str, ...]]:
    """Names of the scores of each part, by the name of the part."""
    parts: dict[str, list[str]] = {}
    for name, function in score_functions().items():
        module = getattr(function, "__module__", "") or type(function).__module__
        parts.setdefault(module.rpartition(".")[2].removesuffix("_scores"), []).append(name)
    return {part: tuple(names) for part, names in parts.items()}


def only(heads: LabelledScores, names: Collection[str]) -> LabelledScores:
    """The heads with these scores only; all others are missing."""
    kept = np.array([score.name in names for score in SCORES])
    return LabelledScores(values=np.where(kept, heads.values, np.nan), defective=heads.defective)


def recalls(
    fitted: LabelledScores,
    judged: LabelledScores,
    held_out: LabelledScores | None,
    settings: FitSettings,
    losses: Sequence[float] = REPORTED_LOSSES,
) -> list[Recall]:
    """Recall with all evidence, then without each part, then with each part alone.

    The threshold of a loss is chosen on the clean heads among those that are judged, so recalls are comparable.
    """
    parts, names = evidence_parts(), [score.name for score in SCORES]
    sets = {EVERYTHING: names}
    if len(parts) > 1:
        sets |= {f"without {part}": [name for name in names if name not in own] for part, own in parts.items()}
        sets |= {f"{part} only": list(own) for part, own in parts.items()}
    return [
        Recall(
            evidence=name,
            known=_recall(only(fitted, chosen), judged, settings, losses),
            held_out={} if held_out is None else _recall(only(fitted, chosen), held_out, settings, losses),
        )
        for name, chosen in sets.items()
        if (~np.isnan(only(fitted, chosen).values)).any()
    ]


def recall(
    log_odds: Float[np.ndarray, " head"], heads: LabelledScores, losses: Sequence[float] = REPORTED_LOSSES
) -> dict[float, float]:
    """Share of the defective heads above the threshold of each loss."""
    return {
        loss: float((log_odds[heads.defective] > threshold_for_loss(log_odds, heads.defective, loss)).mean())
        for loss in losses
    }


def _recall(
    fitted: LabelledScores, judged: LabelledScores, settings: FitSettings, losses: Sequence[float]
) -> dict[float, float]:
    return recall(fit_curves(fitted, settings).log_odds(judged.values), judged, losses)
