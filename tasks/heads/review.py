"""Review: the final verdict on a head, which is the screen's unless a person decided otherwise.

A person's decision on a head enters the key of that head's review and no other key, so a new decision remakes one
small artifact. The gated stages follow this verdict.

Artifact: `review.json` {"keep": bool, "reasons": [reason], "scores": {score name: number or null},
"decision": "keep", "drop" or null, "screen": {"keep": bool, "reasons": [score name]}}.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import Field

from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.screen import Verdict, load_verdict
from spinmeround.tasks.stage import GATE, Decision, NoSections, Stage, StageJob, StageParams

REASON = "review"
"""The reason of a head that a person dropped."""


class ReviewParams(StageParams):
    """The decisions file, and whether a build waits for a person. Enters no key: the decisions do."""

    decisions: str | None = Field(
        None, description="Path of the decisions file; default: 'decisions.json' in the run's folder"
    )
    pause: bool = Field(False, description="Wait after screening until a person has reviewed the heads")
    pause_timeout_s: int = Field(86_400, ge=1, description="Time limit of the pause, in seconds")


@dataclass(frozen=True, kw_only=True)
class ScreenVerdict:
    """The screen's verdict, before any decision."""

    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Review:
    """The final verdict, with the decision and the screen's verdict that it follows from."""

    keep: bool
    reasons: tuple[str, ...]
    scores: dict[str, float | None]
    decision: Decision | None
    screen: ScreenVerdict

    @property
    def kept_by_review(self) -> bool:
        """Whether a person kept the head against the screen."""
        return self.keep and not self.screen.keep


def review(verdict: Verdict, decision: Decision | None) -> Review:
    """The person's decision if one exists, else the screen's verdict; a dropped head keeps the screen's reasons."""
    keep = verdict.keep if decision is None else decision == "keep"
    screen = ScreenVerdict(keep=verdict.keep, reasons=() if verdict.keep else tuple(verdict.reasons) or ("unnamed",))
    reasons = () if keep else (*screen.reasons, *((REASON,) if decision == "drop" else ()))
    return Review(keep=keep, reasons=reasons, scores=dict(verdict.scores), decision=decision, screen=screen)


def load_review(folder: Path) -> Review:
    """The final verdict in a review artifact."""
    found = json.loads((folder / "review.json").read_text(encoding="utf-8"))
    screen = ScreenVerdict(keep=found["screen"]["keep"], reasons=tuple(found["screen"]["reasons"]))
    return Review(
        keep=found["keep"],
        reasons=tuple(found["reasons"]),
        scores=found["scores"],
        decision=found["decision"],
        screen=screen,
    )


def _make(job: StageJob[NoSections]) -> None:
    final = review(load_verdict(job.inputs["screen"]), job.head.decision)
    (job.out / "review.json").write_text(json_text(asdict(final), f"review {job.head.id}"), encoding="utf-8")


REVIEW = Stage(
    name=GATE, version=1, sections_type=NoSections, inputs=("screen",), gated=False, decided=True, make=_make
)
