"""The page on which a person goes through the screened heads, as one HTML file.

Served, it saves each decision at once and loads a head's previews when they come into view. As a file of
its own it has the previews inside, keeps decisions in the browser and downloads them as a decisions file.
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
from spinmeround.tasks.heads.screen import ScreenLimits, Verdict
from spinmeround.tasks.html import template
from spinmeround.tasks.pictures.webp import cut_out, resize, webp
from spinmeround.tasks.screening.decisions import Decisions

CELL = 128
"""Largest side of one preview in a strip, in pixels."""
QUALITY = 82

Limit = tuple[float | None, float | None]
"""Least and largest value of a score that passes; None where there is no such limit."""


@dataclass(frozen=True, kw_only=True)
class ReviewPage:
    """What the page shows: the screen's verdicts by id, in the order of the heads, and the decisions so far.

    `memory` names the run in the browser's memory, apart from all other runs. `strips` are the addresses of
    the heads' previews by id, `shape` (width, height) of all strips in pixels; `digest` stands for these
    verdicts (`tasks.decisions.review_digest`), `unscreened` heads are not among them.
    """

    run: str
    memory: str
    verdicts: Mapping[str, Verdict]
    decisions: Decisions
    strips: Mapping[str, str]
    shape: tuple[int, int]
    limits: Mapping[str, Limit]
    digest: str
    command: str
    unscreened: int
    served: bool


def preview_pictures(
    sample: Path,
) -> tuple[UInt8[np.ndarray, "view height width 3"], UInt8[np.ndarray, "view height width"]]:
    """RGB and mask of all previews in a sample artifact, in the order of the orbit."""
    with np.load(sample / "preview.npz", allow_pickle=False) as preview:
        return preview["rgb"], preview["mask"]


def strip(sample: Path) -> bytes:
    """All previews of a sample artifact side by side, as a WebP file with the background cut out."""
    rgb, mask = preview_pictures(sample)
    pictures = resize(cut_out(rgb, mask), CELL)
    return webp(rearrange(pictures, "view height width rgba -> height (view width) rgba"), quality=QUALITY)


def strip_shape(sample: Path) -> tuple[int, int]:
    """Width and height of `strip`, in pixels."""
    rgb, _ = preview_pictures(sample)
    side = min(rgb.shape[1], CELL)
    return len(rgb) * side, side


def limits_of(limits: ScreenLimits) -> dict[str, Limit]:
    """The limits of the scores that have one, as least or largest values, whichever passes."""
    set_ones = {name: value for name, value in limits.model_dump().items() if value is not None}
    return {
        score.name: (None, set_ones[score.name]) if score.bad == "above" else (set_ones[score.name], None)
        for score in SCORES
        if score.name in set_ones
    }


def score_names(verdicts: Mapping[str, Verdict]) -> list[str]:
    """All scores that any head has, in the order in which they first come."""
    return list(dict.fromkeys(name for verdict in verdicts.values() for name in verdict.scores))


def render_review(page: ReviewPage) -> str:
    """The page as HTML."""
    return template("review.html.j2").render(page=page, data=page_data(page))


def page_data(page: ReviewPage) -> dict[str, Any]:
    """What the page's script reads."""
    names = score_names(page.verdicts)
    about = {score.name: f"{score.about} ({score.unit})" for score in SCORES}
    limits = {name: page.limits.get(name, (None, None)) for name in names}
    return {
        "run": page.run,
        "memory": page.memory,
        "served": page.served,
        "digest": page.digest,
        "shape": page.shape,
        "scores": [{"name": name, "limit": limits[name], "about": about.get(name, "")} for name in names],
        "heads": [
            {
                "id": name,
                "keep": verdict.keep,
                "reasons": list(verdict.reasons),
                "scores": [_finite(verdict.scores.get(score)) for score in names],
                "strip": page.strips[name],
            }
            for name, verdict in page.verdicts.items()
        ],
        "file": page.decisions.model_dump(mode="json"),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
