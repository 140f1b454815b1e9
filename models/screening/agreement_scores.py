"""Scores of how well neighbouring previews agree with each other; `SCORES` describes them.

Visible points of each preview are projected into its neighbour, by their depth.
"""

import numpy as np
from scipy import ndimage

from spinmeround.models.screening.evidence import Evidence, Map
from spinmeround.models.screening.symmetry_scores import DARK

SAME_SURFACE = 0.012
"""Distance along the camera's axis within which two previews show the same point, in sides of the cube."""


def view_disagreement(evidence: Evidence) -> float:
    """Difference of log colour between neighbouring previews that a tenth of the shared surface exceeds."""
    apart, _ = evidence.once(disagreement)
    known = apart[np.isfinite(apart)]
    return float(np.quantile(known, 0.9)) if len(known) else 0.0


def depth_disagreement(evidence: Evidence) -> float:
    """Share of the visible points that lie in front of what the next preview shows, where it sees further."""
    _, floating = evidence.once(disagreement)
    known = np.isfinite(floating)
    return float(np.nansum(floating) / max(known.sum(), 1))


def disagreement(evidence: Evidence) -> tuple[Map, Map]:
    """Of each visible pixel: the difference of its log colour in the next preview around the head, NaN where that does
    not show it; and 1 where it lies clearly in front of what that shows, 0 where it does not, NaN outside of it."""
    seen = evidence.visible
    logs = np.log(evidence.previews.rgb.astype(np.float32) + np.float32(DARK))
    depths = np.nan_to_num(evidence.previews.depth / np.float32(evidence.box_warp), nan=9.0)
    nearest = ndimage.minimum_filter(depths, (1, 3, 3))  # a point near an outline falls beside it
    apart, floating = (np.full(seen.shape, np.nan, np.float32) for _ in range(2))
    for view, azimuth in enumerate(evidence.cameras.azimuth_deg):
        neighbour = evidence.view(float(azimuth) + 360.0 / len(seen))
        pixels, depth = evidence.seen_from(neighbour, evidence.surface[view][seen[view]])
        inside = ((pixels >= 0) & (pixels <= seen.shape[-1] - 1)).all(axis=1)
        row, column = np.clip(np.rint(pixels), 0, seen.shape[-1] - 1).astype(int).T
        shared = inside & evidence.visible[neighbour, row, column]
        shared &= np.abs(depths[neighbour, row, column] - depth) < SAME_SURFACE
        colours = np.stack(
            [ndimage.map_coordinates(channel, pixels.T, order=1) for channel in np.moveaxis(logs[neighbour], -1, 0)], -1
        )
        own = logs[view][seen[view]]
        light = np.median((colours - own)[shared], axis=0) if shared.any() else np.zeros(3)
        apart[view][seen[view]] = np.where(shared, np.abs(colours - own - light).max(axis=-1), np.nan)
        ahead = nearest[neighbour, row, column] - depth
        floating[view][seen[view]] = np.where(inside, ahead > 3.0 * SAME_SURFACE, np.nan)
    return apart, floating
