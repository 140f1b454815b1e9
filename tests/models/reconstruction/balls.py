"""A shaded, coloured ball with exact pictures, masks and normal maps."""

from typing import NamedTuple

import numpy as np

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, pixel_rays

RADIUS = 0.22
CENTRE = np.array([0.02, -0.01, 0.03])


class Ball(NamedTuple):
    """Views of the ball: uint8 pictures on white and masks, anti-aliased by 4 x 4 rays, and exact normals."""

    cameras: Cameras
    rgb: np.ndarray
    mask: np.ndarray
    normals: np.ndarray


def ball(side=32, grid=ViewGrid(azimuths=10, elevations_deg=(-25.0, 25.0)), radius=RADIUS) -> Ball:  # noqa: B008
    """Views of the ball from all cameras of a grid."""
    cameras = grid.cameras()
    fine_hit, fine_normals = _hits(cameras, 4 * side, radius)
    colour = np.where(fine_hit[..., None], 0.5 + 0.4 * fine_normals * [1.0, 0.7, 0.4], 1.0)
    hit, normals = _hits(cameras, side, radius)
    return Ball(
        cameras=cameras,
        rgb=np.rint(255 * _averaged(colour)).astype(np.uint8),
        mask=np.rint(255 * _averaged(fine_hit[..., None].astype(float)))[..., 0].astype(np.uint8),
        normals=np.where(hit[..., None], normals, 0.0).astype(np.float32),
    )


def _hits(cameras, side, radius):
    origins, directions = (each.astype(np.float64) for each in pixel_rays(cameras, side))
    to_centre = CENTRE - origins
    along = (to_centre * directions).sum(-1)
    square = radius**2 - ((to_centre - along[..., None] * directions) ** 2).sum(-1)
    points = origins + (along - np.sqrt(square.clip(0)))[..., None] * directions
    return square > 0, (points - CENTRE) / radius


def _averaged(fine):
    views, side, _, channels = fine.shape
    return fine.reshape(views, side // 4, 4, side // 4, 4, channels).mean(axis=(2, 4))
