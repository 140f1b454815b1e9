"""Scores of what an inspector network finds in the previews; `SCORES` describes them."""

import cv2
import numpy as np

from spinmeround.models.screening.evidence import Evidence, Map

PEAKS = 8
"""Number of the most suspicious cells whose mean is a score."""


def inspection(evidence: Evidence) -> float | None:
    """Largest log-odds of a preview that something in it is wrong; None without an inspector."""
    return None if evidence.inspection is None else float(evidence.inspection.views.max())


def inspection_around(evidence: Evidence) -> float | None:
    """Mean of these log-odds over all previews; None without an inspector."""
    return None if evidence.inspection is None else float(evidence.inspection.views.mean())


def inspection_peak(evidence: Evidence) -> float | None:
    """Mean log-odds of the cells that an inspector finds most suspicious; None without one."""
    if evidence.inspection is None:
        return None
    return float(np.sort(evidence.inspection.cells, axis=None)[-PEAKS:].mean())


def inspection_distance(evidence: Evidence) -> float | None:
    """Largest distance of the features of a preview from those of clean previews; None without an inspector."""
    return None if evidence.inspection is None else float(evidence.inspection.distances.max())


def inspection_map(evidence: Evidence) -> Map | None:
    """Probability that something is wrong at each pixel; None without an inspector."""
    if evidence.inspection is None:
        return None
    cells, side = 1.0 / (1.0 + np.exp(-evidence.inspection.cells)), evidence.previews.rgb.shape[1]
    return np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_LINEAR) for each in cells])
