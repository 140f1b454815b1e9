"""Scores of what a head's two sides do not share, in its own frame; `SCORES` describes them.

Hair, buns and earrings are one-sided on many clean heads, faces are not, so each score exists for the face alone, too.
"""

import numpy as np
from jaxtyping import Float32

from spinmeround.models.screening.evidence import Evidence, Map

COUNTERPART = 0.016
"""Largest distance of a counterpart from the mirrored position, in sides of the cube."""

ODD_CHROMA = 0.08
"""Difference of log chroma above which two colours differ."""

HIDDEN = 0.04
"""Distance behind what a preview shows above which a point is hidden in it, in sides of the cube."""

DARK = 12.0
"""Added to bytes before taking the logarithm, to reduce the weight of noise in dark regions."""

MIRROR = np.array([-1.0, 1.0, 1.0])


def asymmetry(evidence: Evidence) -> float:
    """Share of the volume above the shoulders, which do not tilt with a head, that is farther than COUNTERPART from the
    mirrored head."""
    solid = evidence.solid
    counted = solid.inside & (solid.axis(1) > 1.35 * evidence.frame.chin)
    alone = counted & (solid.outside_distance[::-1] > COUNTERPART)
    return float(alone.sum() / max(counted.sum(), 1))


def face_asymmetry(evidence: Evidence) -> float | None:
    """Distance of the face's surface from the mirrored surface that a twentieth of it exceeds; None without a face."""
    face = evidence.region("face")
    return float(np.quantile(evidence.once(mirror_distance)[face], 0.95)) if face.sum() >= 20 else None


def one_sided_colour(evidence: Evidence) -> float:
    """Share of the visible surface whose hue and saturation are absent nearby on the mirrored side."""
    odd = evidence.once(odd_colours)
    return float(np.nansum(odd) / max(np.isfinite(odd).sum(), 1))


def one_sided_face_colour(evidence: Evidence) -> float:
    """Share of the visible face whose hue and saturation are absent nearby on the mirrored side."""
    odd = evidence.once(odd_colours)[evidence.region("face")]
    return float(np.nansum(odd) / max(np.isfinite(odd).sum(), 1))


def mirror_distance(evidence: Evidence) -> Map:
    """Distance of the mirrored image of each visible point from the surface; zero beside the head."""
    solid, seen = evidence.solid, evidence.visible
    away = (solid.outside_distance + solid.inside_distance)[::-1]
    shown = np.zeros(seen.shape, np.float32)
    shown[seen] = np.maximum(solid.at(away, evidence.surface[seen]) - solid.voxel, 0.0)
    return shown


def odd_colours(evidence: Evidence) -> Map:
    """1 where a colour is absent within a small distance on the mirrored side, 0 where it is present, else NaN.

    Ignores brightness, because light does not always come from the front.
    """
    logs = np.log(evidence.previews.rgb.astype(np.float32) + np.float32(DARK))
    chroma = logs - logs.mean(axis=-1, keepdims=True)
    seen, yaw = evidence.visible, evidence.frame.yaw_deg
    odd = np.full(seen.shape, np.nan, np.float32)
    for view, azimuth in enumerate(evidence.cameras.azimuth_deg):
        twin = evidence.view(2.0 * yaw - float(azimuth))
        apart = _nearest_colour(evidence, chroma, view, twin)
        odd[view][seen[view]] = np.where(np.isfinite(apart), apart > ODD_CHROMA, np.nan)
    return odd


def _nearest_colour(
    evidence: Evidence, chroma: Float32[np.ndarray, "view height width 3"], view: int, twin: int
) -> Float32[np.ndarray, " point"]:
    """For each visible pixel of a preview, its distance to the nearest colour around its place in the twin.

    Infinite where the twin does not show the place.
    """
    side = chroma.shape[1]
    mirrored = evidence.surface[view][evidence.visible[view]] * MIRROR
    own = chroma[view][evidence.visible[view]]
    pixels, depths = evidence.seen_from(twin, mirrored)
    row, column = np.clip(np.rint(pixels), 0, side - 1).astype(int).T
    there = evidence.previews.depth[twin] / evidence.box_warp
    shown = np.abs(depths - np.nan_to_num(there[row, column], nan=9.0)) < HIDDEN
    nearest = np.full(len(own), np.inf, np.float32)
    reach = max(1, side // 21)
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            r, c = np.clip(row + down, 0, side - 1), np.clip(column + across, 0, side - 1)
            apart = np.abs(own - chroma[twin, r, c]).max(axis=-1)
            nearest = np.minimum(nearest, np.where(evidence.visible[twin, r, c], apart, np.inf))
    return np.where(shown, nearest, np.inf).astype(np.float32)
