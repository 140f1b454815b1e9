"""Soft light, fixed in the world frame: sky and ground, a key and a fill lamp, and soft occlusion.

It depends on the place and the normal alone, never on the camera, so a point of a head has the same
colour from everywhere. Occlusion and shadow are read off the signed distance along a few steps
outwards (I. Quilez, "improved soft shadows" and "ambient occlusion" of distance fields).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars
from spinmeround.panohead_bridge.procedural.tracing import in_chunks

Vectors = Float32[np.ndarray, "vertex 3"]

KEY_DIRECTION = np.array([-0.45, 0.62, 0.64], np.float32)
FILL_DIRECTION = np.array([0.75, 0.15, 0.62], np.float32)
BACK_DIRECTION = np.array([0.25, 0.45, -0.86], np.float32)
SKY, GROUND = np.array([0.60, 0.62, 0.66], np.float32), np.array([0.34, 0.31, 0.29], np.float32)
KEY, FILL, BACK = (
    np.array([0.62, 0.59, 0.54], np.float32),
    np.array([0.20, 0.21, 0.23], np.float32),
    np.array([0.34, 0.34, 0.35], np.float32),
)
OCCLUSION_STEPS = (0.012, 0.035)
SHADOW_STEPS = (0.012, 0.025, 0.045, 0.075)


def soft_light(distance: Callable[[Points], Scalars], points: Vectors, normals: Vectors) -> Vectors:
    """Linear RGB light at each point of a surface."""
    open_sky = 1.0 - 0.75 * _occlusion(distance, points, normals)[:, None]
    key = _shadow(distance, points, normals) * _lambert(normals, KEY_DIRECTION, 0.25)
    up = 0.5 + 0.5 * normals[:, 1:2]
    ambient = (GROUND + (SKY - GROUND) * up) * open_sky
    fill = (
        _lambert(normals, FILL_DIRECTION, 0.35)[:, None] * FILL
        + _lambert(normals, BACK_DIRECTION, 0.35)[:, None] * BACK
    )
    light: Vectors = ambient + key[:, None] * KEY + fill * (0.4 + 0.6 * open_sky)
    return light


def _lambert(normals: Vectors, direction: np.ndarray, wrap: float) -> Float32[np.ndarray, " vertex"]:
    cosine = normals @ (direction / np.linalg.norm(direction)).astype(np.float32)
    lit: Float32[np.ndarray, " vertex"] = np.maximum((cosine + wrap) / (1.0 + wrap), 0.0)
    return lit


def _occlusion(
    distance: Callable[[Points], Scalars], points: Vectors, normals: Vectors
) -> Float32[np.ndarray, " vertex"]:
    """Share of the sky, 0 to 1, occluded by nearby surface."""
    closed = [np.clip(1.0 - in_chunks(distance, points + normals * s) / s, 0.0, 1.0) for s in OCCLUSION_STEPS]
    share: Float32[np.ndarray, " vertex"] = np.mean(closed, axis=0)
    return share


def _shadow(distance: Callable[[Points], Scalars], points: Vectors, normals: Vectors) -> Float32[np.ndarray, " vertex"]:
    """Share of the key lamp, 0 to 1, that reaches each point; wide penumbra."""
    towards = (KEY_DIRECTION / np.linalg.norm(KEY_DIRECTION)).astype(np.float32)
    start = points + 0.004 * normals
    light = np.ones(len(points), np.float32)
    for step in SHADOW_STEPS:
        light = np.minimum(light, 0.5 + 2.2 * in_chunks(distance, start + towards * np.float32(step)) / step)
    t = np.clip(light, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
