"""How far predicted normals turn away from the true ones."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class AngularError(NamedTuple):
    """Angles between two normal maps, in degrees."""

    mean: float
    median: float
    percentile_95: float


def normal_angular_error_deg(
    predicted: Float[np.ndarray, "*batch height width 3"],
    target: Float[np.ndarray, "*batch height width 3"],
    mask: Bool[np.ndarray, "*batch height width"],
) -> AngularError:
    """Angles between the normals of all pixels in the mask, taken together.

    The vectors may be of any length, as decoded ones are. A predicted zero vector is counted as 90 degrees, since
    it says nothing.

    Raises:
        ValueError: if the mask is empty or a target in it is zero.
    """
    if not mask.any():
        raise ValueError("normal_angular_error_deg: expected a mask with at least one pixel, got an empty one")
    a, b = predicted[mask].astype(np.float64), target[mask].astype(np.float64)
    if not np.linalg.norm(b, axis=-1).all():
        raise ValueError("normal_angular_error_deg: the target has no normal at a pixel of the mask")
    # the arc tangent is exact near 0 degrees, where the arc cosine is not
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.einsum("pi,pi->p", a, b)))
    angles[~a.any(axis=-1)] = 90.0
    return AngularError(*(float(value) for value in (angles.mean(), *np.percentile(angles, [50, 95]))))
