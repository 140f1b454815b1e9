"""The visual hull of a head (Laurentini 1994): what no mask excludes.

A grid holds, for each sample, the smallest signed distance to the outlines of the masks, in world units at the sample's
depth; positive is inside, and far outside it is any number below zero. It is continuous, so marching cubes places the
surface between the samples. Grids are those of `models.geometry.meshes`: indexed [x, y, z], with the outermost samples
on the faces of the box.
"""

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import distance_transform_edt, map_coordinates

from spinmeround.models.geometry.cameras import Cameras, project
from spinmeround.models.geometry.meshes import density_grid, extract_mesh
from spinmeround.models.geometry.params import MeshParams
from spinmeround.storage.records import TriangleMesh

SEEN_SHARE = 0.25
"""Share of the views whose image must contain a sample; what fewer see is not carved, so it is left out."""
_MARGIN = 4.0
"""Samples outside of the hull from which on its distance does not matter: no surface is between them."""
_GOLDEN = 0.6180339887
"""Multiples of the golden ratio visit the views far from each other first, which exclude most samples early."""


def visual_hull(
    cameras: Cameras,
    mask: UInt8[np.ndarray, "view height width"],
    *,
    box_warp: float = 1.0,
    resolution: int = 96,
) -> TriangleMesh:
    """The surface of the hull, watertight.

    Raises:
        ValueError: if nothing is inside all masks.
    """
    if not (mask >= 128).any(axis=(1, 2)).all():
        empty = int(np.flatnonzero(~(mask >= 128).any(axis=(1, 2)))[0])
        raise ValueError(f"mask: expected a head in every view, view {empty} is empty")
    grid = hull_grid(cameras, mask, box_warp=box_warp, resolution=resolution)
    if not (grid > 0).any():
        raise ValueError(
            "mask: expected masks whose cones meet, but no point is inside all of them; masks and cameras do not fit"
        )
    params = MeshParams(level=0.0, resolution=resolution, min_piece_share=0.05)
    return extract_mesh(grid, box_warp, params)


def hull_grid(
    cameras: Cameras, mask: UInt8[np.ndarray, "view height width"], *, box_warp: float, resolution: int
) -> Float32[np.ndarray, "x y z"]:
    """Signed distances to the hull; positive inside."""
    distances = [signed_distance_px(each) for each in mask]
    side, voxel = mask.shape[1], box_warp / (resolution - 1)
    scattered = np.argsort(np.arange(len(mask)) * _GOLDEN % 1).tolist()

    def inside(points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        lowest, seen = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
        for view in scattered:
            open_ = np.flatnonzero(lowest > -_MARGIN * voxel)
            places, depth = project(cameras[[view]], points[open_])
            focal = float(cameras.intrinsics[view, 0, 0]) * side
            found = map_coordinates(distances[view], places[0, :, ::-1].T * side - 0.5, order=1, mode="nearest")
            shown = ((places[0] >= 0) & (places[0] <= 1)).all(axis=-1) & (depth[0] > 0)
            lowest[open_] = np.where(shown, np.minimum(lowest[open_], found * depth[0] / focal), lowest[open_])
            seen[open_] += shown
        known = (seen >= SEEN_SHARE * len(cameras)) | (lowest < 0)
        return np.where(known, lowest, -_MARGIN * voxel).astype(np.float32)

    return density_grid(inside, box_warp, resolution)


def largest_gap_deg(cameras: Cameras) -> float:
    """The largest gap between neighbouring azimuths, 0 to 360 degrees; a hull needs small ones."""
    azimuth = np.sort(np.mod(cameras.azimuth_deg.astype(np.float64), 360.0))
    return float(np.diff(azimuth, append=azimuth[0] + 360.0).max())


def signed_distance_px(mask: UInt8[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """Distances of pixel centres to the outline where the mask is half, in pixels, positive inside.

    A pixel that the outline crosses is as far inside as its alpha is above a half; others count from the nearest
    such pixel.
    """
    alpha = mask / 255.0
    if (mask == 255).all() or not mask.any():
        return np.full(mask.shape, np.sign(alpha.mean() - 0.5) * max(mask.shape), np.float32)
    to_outside, outside = distance_transform_edt(mask == 255, return_indices=True)
    to_inside, inside = distance_transform_edt(mask == 0, return_indices=True)
    found = np.select(
        [mask == 255, mask == 0],
        [to_outside + alpha[tuple(outside)] - 0.5, alpha[tuple(inside)] - 0.5 - to_inside],
        alpha - 0.5,
    )
    return np.asarray(found, np.float32)
