"""Screen: keep or drop a head by its scores, with a learned verdict, with limits, or with both.

A learned verdict drops a head whose probability of a defect exceeds the verdict's threshold; the reasons are the
scores whose evidence weighs most. A limit drops a head whose score exceeds it. `spinmeround screen calibrate` fits
both and records the heads that they were fitted to.

Artifact: `verdict.json` {"keep": bool, "reasons": [score name], "scores": {score name: number or null}}; with a
learned verdict also {"probability": number, "evidence": {score name: log-odds}}.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.heads.verdict_file import SHIPPED, verdict_file, verdict_fingerprint
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections

if TYPE_CHECKING:
    from spinmeround.models.screening.verdict import LearnedVerdict

NO_EVIDENCE = "no_evidence"
"""The reason of a head that a learned verdict drops although no score speaks against it."""


def _limit(about: str) -> Any:
    return Field(None, allow_inf_nan=False, description=about)


class ScreenLimits(StageParams):
    """Limits of the scores in `models.screening.scores`; null disables a limit."""

    stray_volume: float | None = _limit("Maximum share of volume outside the largest piece")
    cavity_volume: float | None = _limit("Maximum share of volume in closed cavities")
    clipped_volume: float | None = _limit("Maximum share of the cube's faces that the head touches")
    crown_height: float | None = _limit("Minimum height of the crown above the cube's centre, in sides of the cube")
    back_depth: float | None = _limit("Minimum depth of the back of the head behind the centre, in sides of the cube")
    asymmetry: float | None = _limit("Maximum share of volume that is far from the mirrored head")
    one_sided_dents: float | None = _limit("Maximum volume of one-sided dents, in thousandths of the head's volume")
    crown_dents: float | None = _limit("Maximum depth of dents in the upper half of the head, in sides of the cube")
    one_sided_bumps: float | None = _limit("Maximum height of thin one-sided bumps, in sides of the cube")
    silhouette_holes: float | None = _limit("Maximum share of holes in a silhouette")
    silhouette_pieces: float | None = _limit("Maximum share of a silhouette outside its largest piece")
    silhouette_spikes: float | None = _limit("Maximum share of thin parts of a silhouette")
    depth_to_width: float | None = _limit("Maximum ratio of the side silhouette's width to the front silhouette's")
    face_at_back: float | None = _limit("Maximum correlation of brightness between back and face")
    relief_at_back: float | None = _limit("Maximum correlation of relief between back and face")
    recognition_at_back: float | None = _limit("Maximum cosine similarity of the embeddings of back and face")
    one_sided_colour: float | None = _limit("Maximum share of the surface with a hue that the mirrored view lacks")
    colour_seam: float | None = _limit("Maximum step of log brightness across the head")


class ScreenParams(StageParams):
    """A learned verdict and limits of the scores; a score equal to its limit passes."""

    verdict: str = Field(
        "",
        description=f"Learned verdict: a file of 'screen calibrate', or one that ships ({', '.join(SHIPPED)}); "
        "default: limits only",
    )
    limits: ScreenLimits = ScreenLimits()
    generator: str = Field(
        "", description="Generator that the limits were found for; profiles with another generator are rejected"
    )
    origin: str = Field("", description="Source of the limits: heads, labels, date")

    def key_values(self) -> dict[str, Any]:
        """What decides verdicts, but the learned verdict, whose fingerprint is in the key; not the limits' source."""
        return self.model_dump(mode="json", exclude={"origin", "verdict"})


class ScreenSections(StageSections):
    """Sections that the screen stage reads."""

    screen: ScreenParams


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Keep or drop, with the reasons and the scores.

    With a learned verdict also the probability of a defect, and the log-odds that each score adds to it.
    """

    keep: bool
    reasons: tuple[str, ...]
    scores: dict[str, float | None]
    probability: float | None = None
    evidence: dict[str, float] = field(default_factory=dict)


def screen(
    scores: Mapping[str, float | None], params: ScreenParams, learned: "LearnedVerdict | None" = None
) -> Verdict:
    """The verdict on a head with these scores; a score that could not be measured (None) passes its limit.

    The heaviest evidence of the learned verdict comes first among the reasons, then the scores beyond their limits.
    """
    from spinmeround.models.screening.scores import SCORES

    limits = params.limits.model_dump()
    beyond = [
        score.name
        for score in SCORES
        if limits[score.name] is not None and score.fails(scores.get(score.name), limits[score.name])
    ]
    if learned is None:
        return Verdict(keep=not beyond, reasons=tuple(beyond), scores=dict(scores))
    probability = learned.probability(scores)
    found = (learned.reasons(scores) or (NO_EVIDENCE,)) if probability > learned.threshold else ()
    reasons = tuple(dict.fromkeys([*found, *beyond]))
    return Verdict(
        keep=not reasons,
        reasons=reasons,
        scores=dict(scores),
        probability=probability,
        evidence=learned.evidence(scores),
    )


def load_verdict(folder: Path) -> Verdict:
    """The verdict in a screen artifact."""
    found = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return Verdict(
        keep=found["keep"],
        reasons=tuple(found["reasons"]),
        scores=found["scores"],
        probability=found.get("probability"),
        evidence=found.get("evidence", {}),
    )


def _fingerprint(sections: ScreenSections) -> str:
    return verdict_fingerprint(sections.screen.verdict)


def _make(job: StageJob[ScreenSections]) -> None:
    params = job.sections.screen
    learned = verdict_file(params.verdict)[0] if params.verdict else None
    verdict = screen(load_scores(job.inputs["score"]), params, learned)
    content: dict[str, Any] = {"keep": verdict.keep, "reasons": verdict.reasons, "scores": verdict.scores}
    if learned is not None:
        content |= {"probability": verdict.probability, "evidence": verdict.evidence}
    (job.out / "verdict.json").write_text(json_text(content, f"screen {job.head.id}"), encoding="utf-8")


SCREEN = Stage(
    name="screen",
    version=2,
    sections_type=ScreenSections,
    inputs=("score",),
    gated=False,
    weights=_fingerprint,
    make=_make,
)
