"""Screen: keep or drop a head, by comparing its scores with the limits of the profile.

A head is dropped if a score exceeds its limit; the reasons are the names of these scores. `spinmeround screen
calibrate` finds limits and records the heads that they were found on.

Artifact: `verdict.json` {"keep": bool, "reasons": [score name], "scores": {score name: number or null}}.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from spinmeround.models.screening.scores import SCORES
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections


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


class ScreenParams(StageParams):
    """Limits of the scores; a score equal to its limit passes."""

    limits: ScreenLimits = ScreenLimits()
    generator: str = Field(
        "", description="Generator that the limits were found for; profiles with another generator are rejected"
    )
    origin: str = Field("", description="Source of the limits: heads, labels, date")

    def key_values(self) -> dict[str, Any]:
        """What decides verdicts; the text about the limits' source does not."""
        return self.model_dump(mode="json", exclude={"origin"})


class ScreenSections(StageSections):
    """Sections that the screen stage reads."""

    screen: ScreenParams


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Keep or drop, with the reasons and the scores."""

    keep: bool
    reasons: tuple[str, ...]
    scores: dict[str, float | None]


def screen(scores: Mapping[str, float | None], params: ScreenParams) -> Verdict:
    """The verdict on a head with these scores; a score that could not be measured (None) passes."""
    limits = params.limits.model_dump()
    reasons = tuple(
        score.name
        for score in SCORES
        if limits[score.name] is not None and score.fails(scores.get(score.name), limits[score.name])
    )
    return Verdict(keep=not reasons, reasons=reasons, scores=dict(scores))


def load_verdict(folder: Path) -> Verdict:
    """The verdict in a screen artifact."""
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return Verdict(keep=verdict["keep"], reasons=tuple(verdict["reasons"]), scores=verdict["scores"])


def _make(job: StageJob[ScreenSections]) -> None:
    verdict = screen(load_scores(job.inputs["score"]), job.sections.screen)
    (job.out / "verdict.json").write_text(
        json_text(
            {"keep": verdict.keep, "reasons": verdict.reasons, "scores": verdict.scores}, f"screen {job.head.id}"
        ),
        encoding="utf-8",
    )


SCREEN = Stage(name="screen", version=2, sections_type=ScreenSections, inputs=("score",), gated=False, make=_make)
