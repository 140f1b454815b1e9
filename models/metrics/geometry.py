"""Angular error of predicted normals, and overlap of predicted masks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64


class AngularError(NamedTuple):
    """Statistics of the angles between two normal maps, in degrees."""

    mean: float
    median: float
    percentile_95: float


def normal_angular_error_deg(
    predicted: Float[np.ndarray, "*batch height width 3"],
    target: Float[np.ndarray, "*batch height width 3"],
    mask: Bool[np.ndarray, "*batch height width"],
) -> AngularError:
    """Angles between the normals of all pixels in the mask, over all maps.

    Vectors may have any length. A predicted zero vector counts as 90 degrees.

    Raises:
        ValueError: if the mask is empty or a target inside it is zero.
    """
    if not mask.any():
        raise ValueError("normal_angular_error_deg: expected a mask with at least one pixel, got an empty mask")
    a, b = predicted[mask].astype(np.float64), target[mask].astype(np.float64)
    if not np.linalg.norm(b, axis=-1).all():
        raise ValueError("normal_angular_error_deg: expected a target normal at every masked pixel, got zero")
    # the arctangent is precise near 0 degrees, where the arccosine is not
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.einsum("pi,pi->p", a, b)))
    angles[~a.any(axis=-1)] = 90.0
    return AngularError(*(float(value) for value in (angles.mean(), *np.percentile(angles, [50, 95]))))


def mask_iou(
    predicted: Bool[np.ndarray, "*batch height width"], target: Bool[np.ndarray, "*batch height width"]
) -> Float64[np.ndarray, "*batch"]:
    """Intersection over union of masks, 0 to 1; 1 for two empty masks.

    Raises:
        ValueError: if the shapes differ.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"mask_iou: expected equal shapes, got {predicted.shape} and {target.shape}")
    both, either = (count.sum(axis=(-2, -1), dtype=np.float64) for count in (predicted & target, predicted | target))
    return np.where(either > 0, both / np.maximum(either, 1.0), 1.0)
