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

from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections


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
    from spinmeround.models.screening.scores import SCORES

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
