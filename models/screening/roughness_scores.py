"""Scores of fine structure of the surface and of the colour, by region; `SCORES` describes them.

Roughness is the difference of a preview from its own blur within the head, so a slope counts nothing. Depth is in
thousandths of the cube's side, colour in percent. The typical pixel of a region decides, so that a nose
or a strand of hair does not count, unless the region is full of them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from spinmeround.models.screening.evidence import Evidence, Map
from spinmeround.models.screening.frame import REGIONS, Region
from spinmeround.models.screening.symmetry_scores import DARK

FINE, COARSE = 1 / 64, 1 / 16
"""Blurs of the two scales, in sides of the image."""

TYPICAL = 0.75
"""Share of a region's pixels that are smoother than its score."""

FEWEST = 30
"""Pixels below which a region has no score."""


def fine_relief(evidence: Evidence) -> Map:
    """Distance of the surface from its blur over a pixel of 64, in thousandths of the cube's side."""
    return _detail(1e3 * evidence.previews.depth / np.float32(evidence.box_warp), evidence.visible, FINE)


def coarse_relief(evidence: Evidence) -> Map:
    """Distance of the surface from its blur over a sixteenth of the image, in thousandths of the cube's side."""
    return _detail(1e3 * evidence.previews.depth / np.float32(evidence.box_warp), evidence.visible, COARSE)


def fine_colour(evidence: Evidence) -> Map:
    """Difference of the colour from its blur over a pixel of 64, in percent, the largest over red, green and blue."""
    logs = 100.0 * np.log(evidence.previews.rgb.astype(np.float32) + np.float32(DARK))
    details = [_detail(channel, evidence.visible, FINE) for channel in np.moveaxis(logs, -1, 0)]
    return np.asarray(np.max(details, axis=0))


SCALES: dict[str, Callable[[Evidence], Map]] = {
    "fine_relief": fine_relief,
    "coarse_relief": coarse_relief,
    "fine_colour": fine_colour,
}


def region_roughness(scale: str, region: Region) -> Callable[[Evidence], float | None]:
    """The score `<scale>_<region>`: roughness that a quarter of the region exceeds; None where too little is seen."""

    def score(evidence: Evidence) -> float | None:
        pixels = evidence.once(SCALES[scale])[evidence.region(region)]
        return float(np.quantile(pixels, TYPICAL)) if len(pixels) >= FEWEST else None

    score.__name__ = f"{scale}_{region}"
    return score


ROUGHNESS = {f"{scale}_{region}": region_roughness(scale, region) for scale in SCALES for region in REGIONS}
"""Functions of the scores, by name."""


def _detail(pictures: Float32[np.ndarray, "view h w"], seen: Bool[np.ndarray, "view h w"], blur: float) -> Map:
    """Distance of each visible pixel from the blur of the visible pixels; zero elsewhere."""
    sigma = (0.0, *(max(0.7, blur * pictures.shape[-1]),) * 2)
    weight = ndimage.gaussian_filter(seen.astype(np.float32), sigma)
    middle = pictures[seen].mean() if seen.any() else np.float32(0.0)
    known = np.where(seen, pictures - middle, 0.0).astype(np.float32)
    away = np.abs(known - ndimage.gaussian_filter(known, sigma) / np.maximum(weight, 1e-3))
    core = ndimage.binary_erosion(seen, np.ones((1, 3, 3)))
    return np.where(core, away, 0.0).astype(np.float32)
