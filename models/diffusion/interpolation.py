"""Identities between two identities."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

Way = Literal["spherical", "linear"]


def interpolate_identities(
    start: Float[np.ndarray, " width"], end: Float[np.ndarray, " width"], steps: int, way: Way = "spherical"
) -> Float32[np.ndarray, "steps width"]:
    """`steps` unit vectors from one unit vector to another, both included.

    Spherical steps are equal angles along the great circle. Linear ones are equal parts of the chord, brought back to
    unit length: the same way, slower at its ends. Raises ValueError for less than 2 steps and for opposite vectors,
    between which no way is the shortest.
    """
    if steps < 2:
        raise ValueError(f"steps: expected 2 or more, both ends included, got {steps}")
    a, b = (vector.astype(np.float64) / np.linalg.norm(vector) for vector in (start, end))
    angle = 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    if np.pi - angle < 1e-6:
        raise ValueError("identities: expected two that are not opposite, got one and its negative")
    t = np.linspace(0, 1, steps)[:, None]
    if way == "linear" or angle < 1e-6:
        between = (1 - t) * a + t * b
    else:
        between = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.asarray(between / np.linalg.norm(between, axis=-1, keepdims=True), np.float32)
