"""An analytic solid without any symmetry, with its exact density, surface and normal maps."""

import numpy as np

from spinmeround.models.geometry.cameras import Cameras, pixel_rays

CENTRES = np.array([[0.0, 0.0, 0.0], [0.25, 0.0, 0.02], [0.0, 0.28, 0.0], [-0.03, 0.0, 0.22], [-0.2, -0.12, 0.05]])
RADII = np.array([0.18, 0.11, 0.08, 0.1, 0.06])
"""A ball with four bumps: the largest on +x, others on +y, +z and towards (-x, -y)."""


def signed_distance(points):
    """Distance to the surface, negative inside."""
    return (np.linalg.norm(points[:, None] - CENTRES, axis=-1) - RADII).min(axis=-1)


def density(points):
    """10 at the surface, linear nearby, larger inside, clipped to 0 to 20."""
    return np.clip(10.0 * (1.0 - signed_distance(points) / 0.05), 0.0, 20.0).astype(np.float32)


def normal_maps(cameras: Cameras, resolution: int):
    """Exact normals [view, height, width, 3] and hits [view, height, width], by ray-sphere intersection."""
    origins, directions = (rays.astype(np.float64)[..., None, :] for rays in pixel_rays(cameras, resolution))
    to_centre = CENTRES - origins  # view height width ball 3
    along = (to_centre * directions).sum(-1)
    half_chord = RADII**2 - ((to_centre - along[..., None] * directions) ** 2).sum(-1)
    distance = np.where(half_chord >= 0, along - np.sqrt(np.maximum(half_chord, 0)), np.inf)
    nearest = distance.argmin(-1)
    hit = np.isfinite(distance.min(-1))
    points = origins[..., 0, :] + np.where(hit, distance.min(-1), 0.0)[..., None] * directions[..., 0, :]
    normals = (points - CENTRES[nearest]) / RADII[nearest][..., None]
    return np.where(hit[..., None], normals, 0.0), hit
