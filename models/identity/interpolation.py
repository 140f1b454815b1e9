"""Interpolation between two identities."""

import numpy as np
from jaxtyping import Float, Float32

from spinmeround.models.identity.params import InterpolationMethod


def interpolate_identities(
    start: Float[np.ndarray, " width"],
    end: Float[np.ndarray, " width"],
    steps: int,
    method: InterpolationMethod = "spherical",
) -> Float32[np.ndarray, "steps width"]:
    """`steps` unit vectors from one unit vector to another, both included.

    Spherical: equal angles along the great circle. Linear: equal parts of the chord, normalised; the same path, with
    smaller angles near the ends. Raises ValueError for fewer than 2 steps and for opposite vectors, which have no
    unique shortest path.
    """
    if steps < 2:
        raise ValueError(f"steps: expected 2 or more, both ends included, got {steps}")
    a, b = (vector.astype(np.float64) / np.linalg.norm(vector) for vector in (start, end))
    angle = 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    if np.pi - angle < 1e-6:
        raise ValueError("identities: expected two that are not opposite, got one and its negative")
    t = np.linspace(0, 1, steps)[:, None]
    if method == "linear" or angle < 1e-6:
        between = (1 - t) * a + t * b
    else:
        between = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.asarray(between / np.linalg.norm(between, axis=-1, keepdims=True), np.float32)
