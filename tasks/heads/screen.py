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

from spinmeround.models.screening.scores import SCORES
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.heads.verdict_file import SHIPPED, verdict_file, verdict_fingerprint
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections

if TYPE_CHECKING:
    from spinmeround.models.screening.verdict import LearnedVerdict

NO_EVIDENCE = "no_evidence"
"""The reason of a head that a learned verdict drops although no score speaks against it."""


def _limit(name: str) -> Any:
    """The field of the limit of a score."""
    score = next(each for each in SCORES if each.name == name)
    kind = "Maximum" if score.bad == "above" else "Minimum"
    return Field(None, allow_inf_nan=False, description=f"{kind}. {score.description} Unit: {score.unit}")


class ScreenLimits(StageParams):
    """Limits of the scores in `models.screening.scores`; null disables a limit."""

    stray_volume: float | None = _limit("stray_volume")
    cavity_volume: float | None = _limit("cavity_volume")
    clipped_volume: float | None = _limit("clipped_volume")
    crown_height: float | None = _limit("crown_height")
    back_depth: float | None = _limit("back_depth")
    asymmetry: float | None = _limit("asymmetry")
    face_asymmetry: float | None = _limit("face_asymmetry")
    one_sided_dents: float | None = _limit("one_sided_dents")
    crown_dents: float | None = _limit("crown_dents")
    one_sided_bumps: float | None = _limit("one_sided_bumps")
    silhouette_holes: float | None = _limit("silhouette_holes")
    silhouette_pieces: float | None = _limit("silhouette_pieces")
    silhouette_spikes: float | None = _limit("silhouette_spikes")
    depth_to_width: float | None = _limit("depth_to_width")
    face_at_back: float | None = _limit("face_at_back")
    relief_at_back: float | None = _limit("relief_at_back")
    recognition_at_back: float | None = _limit("recognition_at_back")
    one_sided_colour: float | None = _limit("one_sided_colour")
    one_sided_face_colour: float | None = _limit("one_sided_face_colour")
    colour_seam: float | None = _limit("colour_seam")
    neck_area: float | None = _limit("neck_area")
    neck_elongation: float | None = _limit("neck_elongation")
    neck_offset: float | None = _limit("neck_offset")
    neck_step: float | None = _limit("neck_step")
    shoulder_spread: float | None = _limit("shoulder_spread")
    fine_relief_face: float | None = _limit("fine_relief_face")
    fine_relief_top: float | None = _limit("fine_relief_top")
    fine_relief_back: float | None = _limit("fine_relief_back")
    fine_relief_sides: float | None = _limit("fine_relief_sides")
    fine_relief_neck: float | None = _limit("fine_relief_neck")
    coarse_relief_face: float | None = _limit("coarse_relief_face")
    coarse_relief_top: float | None = _limit("coarse_relief_top")
    coarse_relief_back: float | None = _limit("coarse_relief_back")
    coarse_relief_sides: float | None = _limit("coarse_relief_sides")
    coarse_relief_neck: float | None = _limit("coarse_relief_neck")
    fine_colour_face: float | None = _limit("fine_colour_face")
    fine_colour_top: float | None = _limit("fine_colour_top")
    fine_colour_back: float | None = _limit("fine_colour_back")
    fine_colour_sides: float | None = _limit("fine_colour_sides")
    fine_colour_neck: float | None = _limit("fine_colour_neck")
    view_disagreement: float | None = _limit("view_disagreement")
    depth_disagreement: float | None = _limit("depth_disagreement")
    face_behind: float | None = _limit("face_behind")
    likeness_behind: float | None = _limit("likeness_behind")
    faces_in_front: float | None = _limit("faces_in_front")
    face_in_front: float | None = _limit("face_in_front")
    population: float | None = _limit("population")
    population_face: float | None = _limit("population_face")
    population_top: float | None = _limit("population_top")
    population_back: float | None = _limit("population_back")
    population_sides: float | None = _limit("population_sides")
    population_neck: float | None = _limit("population_neck")
    population_shape: float | None = _limit("population_shape")
    population_solidity: float | None = _limit("population_solidity")
    population_colour: float | None = _limit("population_colour")
    population_roughness: float | None = _limit("population_roughness")
    inspection: float | None = _limit("inspection")
    inspection_around: float | None = _limit("inspection_around")
    inspection_peak: float | None = _limit("inspection_peak")
    inspection_distance: float | None = _limit("inspection_distance")


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
