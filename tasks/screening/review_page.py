"""The page for manual review of the screened heads, as one HTML file.

A served page saves each decision at once and loads the previews of a head when they come into view. A standalone page
embeds the previews, keeps decisions in the browser's local storage and downloads them as a decisions file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from spinmeround.models.screening.scores import SCORES
from spinmeround.tasks.heads.sample_files import load_previews
from spinmeround.tasks.heads.screen import ScreenLimits, Verdict
from spinmeround.tasks.html import template
from spinmeround.tasks.pictures.webp import cut_out, resize, webp
from spinmeround.tasks.screening.decisions import Decisions

MAX_PREVIEW_SIDE = 128
"""Maximum side of one preview in a strip, in pixels."""

QUALITY = 82
"""WebP quality of the strips."""

PROBABILITY = "probability"
"""The name of the learned verdict's probability among the scores of the page."""

Limit = tuple[float | None, float | None]
"""Minimum and maximum value of a score that passes; None for no limit."""


@dataclass(frozen=True, kw_only=True)
class ReviewPage:
    """The content of the page: the screen's verdicts by id, in the order of the heads, and the decisions so far.

    Attributes:
        storage_key: identifies the run in the browser's local storage.
        strips: URLs of the previews of each head, by id.
        maps: URLs of the maps of a head's reasons, by id and score.
        strip_size: (width, height) of every strip, in pixels.
        digest: `decisions.review_digest` of the verdicts.
        command: the command that continues the run after the review.
        unscreened: number of heads that have no verdict yet.
        served: whether a server saves the decisions; otherwise the page is a standalone file.
    """

    run: str
    storage_key: str
    verdicts: Mapping[str, Verdict]
    decisions: Decisions
    strips: Mapping[str, str]
    maps: Mapping[str, Mapping[str, str]]
    strip_size: tuple[int, int]
    limits: Mapping[str, Limit]
    digest: str
    command: str
    unscreened: int
    served: bool


def preview_pictures(
    sample: Path,
) -> tuple[UInt8[np.ndarray, "view height width 3"], UInt8[np.ndarray, "view height width"]]:
    """RGB and mask of all previews in a sample artifact, in the order of their azimuths."""
    previews = load_previews(sample).rendering
    return previews.rgb, previews.mask


def preview_strip(sample: Path) -> bytes:
    """All previews of a sample artifact side by side, as a WebP file with a transparent background."""
    rgb, mask = preview_pictures(sample)
    pictures = resize(cut_out(rgb, mask), MAX_PREVIEW_SIDE)
    return webp(rearrange(pictures, "view height width rgba -> height (view width) rgba"), quality=QUALITY)


def preview_strip_size(sample: Path) -> tuple[int, int]:
    """(width, height) of `preview_strip`, in pixels."""
    rgb, _ = preview_pictures(sample)
    side = min(rgb.shape[1], MAX_PREVIEW_SIDE)
    return len(rgb) * side, side


def limits_of(limits: ScreenLimits) -> dict[str, Limit]:
    """The range that passes, of each score with a limit."""
    defined = {name: value for name, value in limits.model_dump().items() if value is not None}
    return {
        score.name: (None, defined[score.name]) if score.bad == "above" else (defined[score.name], None)
        for score in SCORES
        if score.name in defined
    }


def score_names(verdicts: Mapping[str, Verdict]) -> list[str]:
    """All scores that at least one head has, in order of first appearance, after the learned verdict's probability."""
    learned = [PROBABILITY] if any(verdict.probability is not None for verdict in verdicts.values()) else []
    return [*learned, *dict.fromkeys(name for verdict in verdicts.values() for name in verdict.scores)]


def render_review(page: ReviewPage) -> str:
    """The page as HTML."""
    return template("review.html.j2").render(page=page, data=page_data(page))


def page_data(page: ReviewPage) -> dict[str, Any]:
    """The data that the page's script reads."""
    names = score_names(page.verdicts)
    descriptions = {score.name: f"{score.description} ({score.unit})" for score in SCORES}
    descriptions[PROBABILITY] = "Probability of a defect, by the learned verdict."
    limits = {name: page.limits.get(name, (None, None)) for name in names}
    return {
        "run": page.run,
        "storage_key": page.storage_key,
        "served": page.served,
        "digest": page.digest,
        "strip_size": page.strip_size,
        "scores": [{"name": name, "limit": limits[name], "description": descriptions.get(name, "")} for name in names],
        "heads": [
            {
                "id": name,
                "keep": verdict.keep,
                "reasons": list(verdict.reasons),
                "scores": [_finite(_values(verdict).get(score)) for score in names],
                "evidence": [verdict.evidence.get(score) for score in names],
                "strip": page.strips[name],
                "maps": page.maps.get(name, {}),
            }
            for name, verdict in page.verdicts.items()
        ],
        "file": page.decisions.model_dump(mode="json"),
    }


def _values(verdict: Verdict) -> dict[str, float | None]:
    return {PROBABILITY: verdict.probability, **verdict.scores}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
