"""Scores of the neck and shoulders, from cross-sections of a head's voxels; `SCORES` describes them.

A cross-section is what the head fills at one height of its frame; only its largest piece counts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import ndimage

from spinmeround.models.screening.evidence import Evidence

SHOULDER = 0.25
"""Distance from the middle up to which a tilted cut of the shoulders is left out, in sides of the cube."""

JAW = 0.4
"""Length below the chin that is left out, where the jaw ends, in distances from eyes to mouth."""


@dataclass(frozen=True, kw_only=True)
class CrossSections:
    """Of each height, lowest first: area, centre (x, z) and ratio of the longest to the shortest axis."""

    height: Float64[np.ndarray, " level"]
    area: Float64[np.ndarray, " level"]
    centre: Float64[np.ndarray, "level 2"]
    elongation: Float64[np.ndarray, " level"]

    def between(self, low: float, high: float) -> "CrossSections":
        """The filled cross-sections of a range of heights."""
        chosen = (self.height >= low) & (self.height <= high) & (self.area > 0.0)
        return CrossSections(
            height=self.height[chosen],
            area=self.area[chosen],
            centre=self.centre[chosen],
            elongation=self.elongation[chosen],
        )


def neck_area(evidence: Evidence) -> float | None:
    """Least cross-section below the chin divided by the largest one above it; None for a head that ends above it."""
    sections = evidence.once(cross_sections)
    neck, head = _neck(evidence), sections.between(evidence.frame.chin, np.inf)
    if not len(neck.area) or not len(head.area):
        return None
    return float(neck.area.min() / head.area.max())


def neck_elongation(evidence: Evidence) -> float | None:
    """Ratio of the longest to the shortest axis of the neck's least cross-section; None as `neck_area`."""
    neck = _neck(evidence)
    return float(neck.elongation[neck.area.argmin()]) if len(neck.area) else None


def neck_offset(evidence: Evidence) -> float | None:
    """Distance of the neck's centre from the middle plane, plus the centre's jump between heights; None as
    `neck_area`."""
    neck = _neck(evidence)
    if len(neck.area) < 2:
        return None
    return float(np.abs(neck.centre[:, 0]).max() + np.linalg.norm(np.diff(neck.centre, axis=0), axis=1).max())


def neck_step(evidence: Evidence) -> float | None:
    """Largest logarithm of the ratio of cross-sections 0.04 sides of the cube apart, below the chin; None as
    `neck_area`."""
    neck = _neck(evidence)
    apart = max(1, round(0.04 / evidence.solid.voxel))
    if len(neck.area) <= apart:
        return None
    return float(np.abs(np.log(neck.area[apart:] / neck.area[:-apart])).max())


def shoulder_spread(evidence: Evidence) -> float | None:
    """Lowest cross-section divided by the neck's least one; None as `neck_area`."""
    neck = _neck(evidence)
    return float(neck.area[0] / neck.area.min()) if len(neck.area) else None


def cross_sections(evidence: Evidence) -> CrossSections:
    """The cross-sections of a head at the heights of its voxels."""
    solid = evidence.solid
    x, z = np.broadcast_arrays(solid.axis(0)[:, 0], solid.axis(2)[0])
    rows = [_cross_section(layer, x, z) for layer in np.moveaxis(solid.inside, 1, 0)]
    area, across, along, elongation = np.array(rows).T
    return CrossSections(
        height=solid.axis(1).ravel(),
        area=area * solid.voxel**2,
        centre=np.stack([across, along], axis=-1),
        elongation=elongation,
    )


def _neck(evidence: Evidence) -> CrossSections:
    """Cross-sections of the head from its lower end, but for what tilts into the cut, to somewhat below the chin."""
    solid, frame = evidence.solid, evidence.frame
    bottom = [[x, _bottom(evidence), z] for x in (-SHOULDER, SHOULDER) for z in (-SHOULDER, SHOULDER)]
    lowest = float(frame.local(np.array(bottom))[:, 1].max())
    return evidence.once(cross_sections).between(lowest + 3.0 * solid.voxel, frame.chin - JAW * frame.face)


def _bottom(evidence: Evidence) -> float:
    """Height of the lowest sample that is kept, relative to the cube's centre."""
    kept = 0 if evidence.kept is None else evidence.kept[1].start or 0
    return kept / (len(evidence.density) - 1) - 0.5


def _cross_section(layer: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[float, float, float, float]:
    """Area in voxels, centre and elongation of the largest piece."""
    labels, pieces = ndimage.label(layer)
    if not pieces:
        return 0.0, 0.0, 0.0, 1.0
    piece = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    places = np.stack([x[piece], z[piece]])
    variance = np.linalg.eigvalsh(np.cov(places)) if places.shape[1] > 2 else np.ones(2)
    elongation = float(np.sqrt(variance[1] / max(variance[0], 1e-9)))
    return float(piece.sum()), float(places[0].mean()), float(places[1].mean()), min(elongation, 20.0)
