"""Multi-view consistency: images of neighbouring views compared through the true geometry.

Each pixel of a view that shows the head is a point in space. If the neighbouring view sees the same point, that is, if
its depth there equals the point's, both should have the same colour, up to lighting and resampling.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from scipy.ndimage import map_coordinates

from spinmeround.models.geometry.cameras import Cameras, angles_between_deg, pixel_rays, project


class Consistency(NamedTuple):
    """PSNR between neighbouring views, in dB.

    `psnr` is over all pixel pairs; `pairs` is per pair of views, which `of` names, NaN for a pair without
    commonly visible points. `visible` is the share of the head's pixels that the other view of a pair sees.
    """

    psnr: float
    pairs: Float64[np.ndarray, " pair"]
    visible: float
    of: tuple[tuple[int, int], ...]


def neighbour_consistency(
    images: UInt8[np.ndarray, "view height width 3"],
    depth: Float32[np.ndarray, "view height width"],
    cameras: Cameras,
    *,
    offset: int = 1,
    tolerance: float = 0.01,
) -> Consistency:
    """Consistency of views in ring order; each view is compared with the one `offset` places further, cyclically.

    `depth` is along the camera z axis, NaN in the background; depths within `tolerance` world units are equal. Raises
    ValueError for a ring of `offset` views or fewer, and if no neighbour sees any pixel.
    """
    if not 0 < offset < len(images):
        raise ValueError(f"images: expected {max(2, offset + 1)} or more views of a ring, got {len(images)}")
    ring = [(view, (view + offset) % len(images)) for view in range(len(images))]
    return _consistency(images, depth, cameras, ring, tolerance)


def near_pairs(cameras: Cameras, most_deg: float) -> list[tuple[int, int]]:
    """All ordered pairs of views whose cameras are at most this angle apart."""
    angles = angles_between_deg(cameras, cameras)
    return [(a, b) for a in range(len(cameras)) for b in range(len(cameras)) if a != b and angles[a, b] <= most_deg]


def pair_consistency(
    images: UInt8[np.ndarray, "view height width 3"],
    depth: Float32[np.ndarray, "view height width"],
    cameras: Cameras,
    *,
    most_deg: float = 60.0,
    tolerance: float = 0.01,
) -> Consistency:
    """Consistency of any views: of all pairs whose cameras are at most `most_deg` apart, each in both directions.

    Otherwise as `neighbour_consistency`. Raises ValueError if no view sees a pixel of another one.
    """
    return _consistency(images, depth, cameras, near_pairs(cameras, most_deg), tolerance)


def _consistency(
    images: UInt8[np.ndarray, "view height width 3"],
    depth: Float32[np.ndarray, "view height width"],
    cameras: Cameras,
    pairs: Sequence[tuple[int, int]],
    tolerance: float,
) -> Consistency:
    errors, seen, total = [], 0, 0
    for view, neighbour in pairs:
        warped, visible = warp(
            images[neighbour], depth[[view, neighbour]], cameras[[view, neighbour]], tolerance=tolerance
        )
        errors.append((warped - images[view])[visible].ravel())
        seen, total = seen + int(visible.sum()), total + int(np.isfinite(depth[view]).sum())
    if not seen:
        raise ValueError("images: no pixel is visible in a neighbouring view; check that cameras and depths match")
    each = np.array([_psnr(error) if error.size else np.nan for error in errors])
    return Consistency(_psnr(np.concatenate(errors)), each, seen / total, tuple(pairs))


def _psnr(errors: Float[np.ndarray, " value"]) -> float:
    return float(10 * np.log10(255.0**2 / max(float(np.square(errors).mean()), 1e-12)))


def warp(
    image: UInt8[np.ndarray, "height width 3"],
    depth: Float32[np.ndarray, "2 height width"],
    cameras: Cameras,
    *,
    tolerance: float = 0.01,
) -> tuple[Float[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """The second camera's image warped to the first camera, and where it is visible. Depths and cameras are of both."""
    side = image.shape[0]
    origins, directions = pixel_rays(cameras[[0]], side)
    along = directions[0] @ cameras.cam2world[0, :3, 2]  # height width
    points = origins[0] + directions[0] * (depth[0] / along)[..., None]
    known = np.isfinite(depth[0])
    position, distance = project(cameras[[1]], points[known])
    place = position[0].T[::-1] * side - 0.5  # rows, then columns
    inside = ((place >= 0) & (place <= side - 1)).all(axis=0)
    other_depth = map_coordinates(np.nan_to_num(depth[1], nan=-1e3), place, order=1, mode="nearest")
    visible = np.zeros_like(known)
    visible[known] = inside & (np.abs(other_depth - distance[0]) < tolerance)
    warped = np.zeros(image.shape, np.float64)
    for channel in range(3):
        warped[known, channel] = map_coordinates(image[..., channel].astype(float), place, order=1, mode="nearest")
    return warped, visible
