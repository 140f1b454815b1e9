"""Do pictures of one head agree with each other? Neighbouring views, carried over by the true geometry.

Each pixel of a view that sees the head is a point in space; where the neighbour sees that point, too (its own depth is
the point's), both should have the same colour, up to what light and resampling change.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from scipy.ndimage import map_coordinates

from spinmeround.models.geometry.cameras import Cameras, pixel_rays, project


class Consistency(NamedTuple):
    """PSNR in decibels, over all pairs of pixels and of each pair of views by its first one (NaN for a pair of which
    neither sees what the other does), and the share of the heads' pixels that the other view of a pair sees."""

    psnr: float
    pairs: Float64[np.ndarray, " view"]
    seen: float


def neighbour_consistency(
    pictures: UInt8[np.ndarray, "view height width 3"],
    depth: Float32[np.ndarray, "view height width"],
    cameras: Cameras,
    *,
    apart: int = 1,
    tolerance: float = 0.01,
) -> Consistency:
    """Of views in the order of a ring, the last beside the first; each is compared with the view `apart` places on.
    `depth` is along z, NaN where no head is seen; two depths are the same within `tolerance` world units.

    Raises ValueError for a ring of no more views than `apart`, or where no neighbour sees a pixel.
    """
    if not 0 < apart < len(pictures):
        raise ValueError(f"pictures: expected {max(2, apart + 1)} or more views of a ring, got {len(pictures)}")
    errors, seen, of = [], 0, 0
    for view in range(len(pictures)):
        neighbour = (view + apart) % len(pictures)
        warped, visible = warp(
            pictures[neighbour], depth[[view, neighbour]], cameras[[view, neighbour]], tolerance=tolerance
        )
        errors.append((warped - pictures[view])[visible].ravel())
        seen, of = seen + int(visible.sum()), of + int(np.isfinite(depth[view]).sum())
    if not seen:
        raise ValueError("pictures: no pixel of a view is seen by its neighbour; are the cameras those of the depths?")
    pairs = np.array([_psnr(error) if error.size else np.nan for error in errors])
    return Consistency(_psnr(np.concatenate(errors)), pairs, seen / of)


def _psnr(errors: Float[np.ndarray, " value"]) -> float:
    return float(10 * np.log10(255.0**2 / max(float(np.square(errors).mean()), 1e-12)))


def warp(
    picture: UInt8[np.ndarray, "height width 3"],
    depth: Float32[np.ndarray, "2 height width"],
    cameras: Cameras,
    *,
    tolerance: float = 0.01,
) -> tuple[Float[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """The second camera's picture as the first camera sees it, and where it does. Depths and cameras are of both."""
    side = picture.shape[0]
    origins, directions = pixel_rays(cameras[[0]], side)
    along = directions[0] @ cameras.cam2world[0, :3, 2]  # height width
    points = origins[0] + directions[0] * (depth[0] / along)[..., None]
    known = np.isfinite(depth[0])
    position, distance = project(cameras[[1]], points[known])
    place = position[0].T[::-1] * side - 0.5  # rows, then columns
    inside = ((place >= 0) & (place <= side - 1)).all(axis=0)
    their_depth = map_coordinates(np.nan_to_num(depth[1], nan=-1e3), place, order=1, mode="nearest")
    visible = np.zeros_like(known)
    visible[known] = inside & (np.abs(their_depth - distance[0]) < tolerance)
    warped = np.zeros(picture.shape, np.float64)
    for channel in range(3):
        warped[known, channel] = map_coordinates(picture[..., channel].astype(float), place, order=1, mode="nearest")
    return warped, visible
