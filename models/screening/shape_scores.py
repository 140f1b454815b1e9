"""Scores of a head's shape, from the voxels of a coarse grid; `SCORES` describes them.

Lengths are in sides of the cube. Voxels are those of the head's own frame, so a tilted or turned head scores as an
upright one. Generator artifacts are rarely symmetric, facial features are; the one-sided scores rely on this.
"""

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from spinmeround.models.screening.evidence import Evidence
from spinmeround.models.screening.solid import DENT_RADIUS, Solid
from spinmeround.models.screening.symmetry_scores import COUNTERPART

_FACES = tuple((*(slice(None),) * dimension, end) for dimension in range(3) for end in (0, -1))


def stray_volume(evidence: Evidence) -> float:
    """Share of the volume outside the largest piece; 1 if nothing is inside."""
    labels, pieces = ndimage.label(evidence.inside)
    if not pieces:
        return 1.0
    sizes = np.bincount(labels.ravel())[1:]
    return float(1.0 - sizes.max() / sizes.sum())


def cavity_volume(evidence: Evidence) -> float:
    """Volume of closed cavities, as a share of the head's."""
    labels, _ = ndimage.label(~evidence.inside)
    open_to_faces = np.unique(np.concatenate([labels[face].ravel() for face in _FACES]))
    closed = (labels > 0) & ~np.isin(labels, open_to_faces)
    return float(closed.sum() / max(evidence.inside.sum(), 1))


def clipped_volume(evidence: Evidence) -> float:
    """Share of the faces of the kept box that the head intersects, over all faces but the bottom, where the neck ends.

    Without a trim, a face is the second outermost layer of samples, because some generators close their surface in the
    outermost layer.
    """
    nodes = len(evidence.inside)
    kept = evidence.kept or (slice(None),) * 3
    starts, ends = (
        [max(1, part.indices(nodes)[0]) for part in kept],
        [min(nodes - 1, p.indices(nodes)[1]) for p in kept],
    )
    inside = evidence.inside[tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))]
    faces = [inside[0], inside[-1], inside[:, -1], inside[:, :, 0], inside[:, :, -1]]
    return float(np.mean([face.mean() for face in faces]))


def crown_height(evidence: Evidence) -> float:
    """Height of the top of the head above its eyes."""
    solid = evidence.solid
    return _reach(solid, solid.axis(1), np.abs(solid.axis(0)) < 0.04, np.abs(solid.axis(2)) < 0.04)


def back_depth(evidence: Evidence) -> float:
    """Distance of the back of the head behind the frame's origin, from the height of the eyes to the forehead's."""
    solid = evidence.solid
    height = solid.axis(1)
    return _reach(
        solid, -solid.axis(2), np.abs(solid.axis(0)) < 0.04, (height > 0.0) & (height < evidence.frame.forehead)
    )


def one_sided_dents(evidence: Evidence) -> float:
    """Volume of dents without a mirrored counterpart, outside the face, in thousandths of the head's volume.

    A dent is the space that a ball of DENT_RADIUS cannot reach. A voxel is weighted by how much deeper it is than all
    of its mirrored neighbourhood, in units of DENT_RADIUS.
    """
    solid = evidence.solid
    deeper = _one_sided(solid, solid.dents)
    counted = (solid.axis(1) > 1.35 * evidence.frame.chin) & ~_face(evidence) & (deeper > solid.voxel)
    return float(1e3 * deeper[counted].sum() / DENT_RADIUS / solid.volume)


def crown_dents(evidence: Evidence) -> float:
    """Depth of the deepest dent in the upper half of the head, mirrored or not."""
    solid = evidence.solid
    upper = (solid.axis(1) > 0.9 * evidence.frame.forehead) & ~_face(evidence)
    return float(np.where(upper, solid.dents, 0.0).max())


def one_sided_bumps(evidence: Evidence) -> float:
    """Height of the highest thin bump without a mirrored counterpart; thin means that a ball of 0.015 does not fit."""
    solid = evidence.solid
    alone = (
        (solid.bumps > 0.0) & ~_near(solid.bumps[::-1] > 0.0, solid.voxel) & (solid.axis(1) > 2.0 * evidence.frame.chin)
    )
    return float(solid.bumps[alone].max(initial=0.0))


def _reach(solid: Solid, along: np.ndarray, *where: np.ndarray) -> float:
    """Largest coordinate of the head within a region."""
    chosen = solid.inside
    for condition in where:
        chosen = chosen & condition
    return float(np.broadcast_to(along, chosen.shape)[chosen].max(initial=-0.5))


def _face(evidence: Evidence) -> Bool[np.ndarray, "x y z"]:
    """The region in front of and below the hairline, where hair, glasses and facial features overhang."""
    solid, face = evidence.solid, evidence.frame.face
    return (solid.axis(2) > 0.7 * face) & (solid.axis(1) < 1.7 * face)


def _one_sided(solid: Solid, values: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
    """Excess of each value over the largest one in its mirrored neighbourhood."""
    side = 1 + 2 * round(COUNTERPART / solid.voxel)
    excess: Float32[np.ndarray, "x y z"] = values - ndimage.maximum_filter(values[::-1], side)
    return excess


def _near(mask: Bool[np.ndarray, "x y z"], voxel: float) -> Bool[np.ndarray, "x y z"]:
    """The mask dilated by COUNTERPART."""
    grown: Bool[np.ndarray, "x y z"] = ndimage.maximum_filter(mask, 1 + 2 * round(COUNTERPART / voxel))
    return grown
