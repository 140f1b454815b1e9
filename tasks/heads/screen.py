"""Screen: keep or drop a head, by the limits that its scores have in the profile.

A head is dropped when a score is beyond its limit; the reasons are the scores' names. The limits come from
`spinmeround screen calibrate` and say on which heads they were found.

Artifact: `verdict.json` {"keep": bool, "reasons": [score name], "scores": {score name: number or null}}.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from spinmeround.models.screening.scores import SCORES
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.stage import Stage, StageJob, StageParams


def _limit(about: str) -> Any:
    return Field(None, allow_inf_nan=False, description=about)


class ScreenLimits(StageParams):
    """How far each score of `models.screening.scores` may go; none is no limit."""

    stray_volume: float | None = _limit("Largest share of volume apart from the main piece")
    cavity_volume: float | None = _limit("Largest share of volume that is closed cavities")
    clipped_volume: float | None = _limit("Largest share of the cube's faces that the head runs into")
    crown_height: float | None = _limit("Least height of the crown over the cube's centre, in sides of the cube")
    back_depth: float | None = _limit("Least depth of the back of the head behind the centre, in sides of the cube")
    asymmetry: float | None = _limit("Largest share of volume that the mirrored head is not near")
    one_sided_dents: float | None = _limit("Largest volume of one-sided dents, in thousandths of the head's")
    crown_dents: float | None = _limit("Deepest dent of the upper half of the head, in sides of the cube")
    one_sided_bumps: float | None = _limit("Highest thin one-sided bump, in sides of the cube")
    silhouette_holes: float | None = _limit("Largest share of a silhouette that is holes")
    silhouette_pieces: float | None = _limit("Largest share of a silhouette that is apart from its main piece")
    silhouette_spikes: float | None = _limit("Largest share of a silhouette that is thin")
    depth_to_width: float | None = _limit("Largest ratio of the side silhouette's width to the front one's")
    face_at_back: float | None = _limit("Largest correlation of the back's brightness with the face's")
    relief_at_back: float | None = _limit("Largest correlation of the back's relief with the face's")
    recognition_at_back: float | None = _limit("Largest cosine of the back's embedding with the face's")
    one_sided_colour: float | None = _limit("Largest share of the surface whose hue the mirrored view lacks")
    colour_seam: float | None = _limit("Largest jump of log brightness that runs across the head")


class ScreenParams(StageParams):
    """Limits of the scores; a head at a limit is kept."""

    limits: ScreenLimits = ScreenLimits()
    generator: str = Field("", description="Generator that the limits were found for; a profile of another is refused")
    origin: str = Field("", description="Where the limits come from: heads, labels, date")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Keep or drop, why, and the numbers behind it."""

    keep: bool
    reasons: tuple[str, ...]
    scores: dict[str, float | None]


def screen(scores: Mapping[str, float | None], params: ScreenParams) -> Verdict:
    """The verdict on a head with these scores; one that could not be had is no reason."""
    limits = params.limits.model_dump()
    reasons = tuple(
        score.name
        for score in SCORES
        if limits[score.name] is not None and score.fails(scores.get(score.name), limits[score.name])
    )
    return Verdict(keep=not reasons, reasons=reasons, scores=dict(scores))


def load_verdict(folder: Path) -> Verdict:
    """The verdict in a screen artifact."""
    verdict = json.loads((folder / "verdict.json").read_text())
    return Verdict(keep=verdict["keep"], reasons=tuple(verdict["reasons"]), scores=verdict["scores"])


def _make(job: StageJob) -> None:
    verdict = screen(load_scores(job.inputs["score"]), job.sections["screen"])
    (job.out / "verdict.json").write_text(
        json.dumps({"keep": verdict.keep, "reasons": verdict.reasons, "scores": verdict.scores}, indent=1)
    )


SCREEN = Stage(name="screen", version=2, reads=("screen",), inputs=("score",), gated=False, make=_make)
