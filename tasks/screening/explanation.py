"""The map of a score over a head's previews: where the evidence that a score measures lies.

A score artifact may hold maps in `evidence.npz`, one array of bytes per preview under `map.<name>` (0 where nothing is
odd, 255 at most). `models.screening.scores` names the map of a score, if it has one.
"""

from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from spinmeround.models.screening.scores import SCORES
from spinmeround.tasks.pictures.webp import cut_out, resize, webp
from spinmeround.tasks.screening.review_page import MAX_PREVIEW_SIDE, QUALITY, preview_pictures

EVIDENCE = "evidence.npz"

HEAT = np.array([220, 30, 30], np.float32)
"""Colour of the strongest evidence."""

FADED = 0.35
"""Weight of the preview's own brightness where there is no evidence."""


def map_of(score: str) -> str | None:
    """The name of the map of a score; None if it has none."""
    return next((getattr(each, "map", None) for each in SCORES if each.name == score), None)


def map_strip(sample: Path, scores: Path, name: str) -> bytes | None:
    """The previews of a head in grey with a map over them in red, as `preview_strip`; None without that map."""
    strengths = _load(scores, name)
    if strengths is None:
        return None
    rgb, mask = preview_pictures(sample)
    pictures = resize(cut_out(heated(rgb, strengths), np.maximum(mask, strengths)), MAX_PREVIEW_SIDE)
    return webp(rearrange(pictures, "view height width rgba -> height (view width) rgba"), quality=QUALITY)


def heated(
    rgb: UInt8[np.ndarray, "view height width 3"], strengths: UInt8[np.ndarray, "view height width"]
) -> UInt8[np.ndarray, "view height width 3"]:
    """Pale grey pictures that turn red with the strength of the evidence."""
    share = (strengths / 255.0)[..., None].astype(np.float32)
    grey = 255.0 * (1.0 - FADED) + FADED * rgb.mean(-1, keepdims=True)
    return np.asarray(((1.0 - share) * grey + share * HEAT).round(), np.uint8)


def _load(scores: Path, name: str) -> UInt8[np.ndarray, "view height width"] | None:
    path = scores / EVIDENCE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        found: np.ndarray | None = arrays.get(f"map.{name}")
        return found
