"""The visual hull of a head: the largest solid that is inside the outline of every view (Laurentini 1994).

It contains the head, touches it along the outlines and is convex where no outline shows a hollow, as in the eye
sockets. It needs views from all sides: between two neighbouring directions it bulges towards the cameras.
"""

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import map_coordinates

from spinmeround.models.geometry.cameras import Cameras, project
from spinmeround.models.geometry.meshes import extract_mesh
from spinmeround.models.geometry.params import MeshParams
from spinmeround.storage.records import TriangleMesh

BOX = 1.0
"""Side of the cube round the origin that holds the hull, in world units."""

_GOLDEN = (5**0.5 - 1) / 2


def visual_hull(mask: UInt8[np.ndarray, "view height width"], cameras: Cameras, *, cells: int = 96) -> TriangleMesh:
    """The surface of the hull, from `cells`^3 samples of the smallest opacity over all views.

    A sample that a view does not show is as if its nearest pixel showed it, so a body that leaves the picture goes on.
    Raises ValueError if nothing is inside all outlines.
    """
    grid = opacity_grid(mask, cameras, cells)
    if not (grid > 0.5).any():
        raise ValueError("mask: expected outlines of one solid, found no point that is inside all of them")
    return extract_mesh(grid, BOX, MeshParams(level=0.5, resolution=cells, vertex_normals="faces"))


def opacity_grid(
    mask: UInt8[np.ndarray, "view height width"], cameras: Cameras, cells: int
) -> Float32[np.ndarray, "x y z"]:
    """The smallest opacity, 0 to 1, at which a view shows each sample of the cube, indexed [x, y, z]."""
    axis = np.linspace(-BOX / 2, BOX / 2, cells, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    opacity, left = np.ones(len(points), np.float32), np.arange(len(points))
    spread = np.argsort(np.arange(len(mask)) * _GOLDEN % 1)  # views from different sides first remove most samples
    for view in spread.tolist():
        seen = _opacity(mask[view], cameras[[view]], points[left])
        opacity[left] = np.minimum(opacity[left], seen)
        left = left[opacity[left] > 0]
    return opacity.reshape((cells,) * 3)


def largest_gap_deg(cameras: Cameras) -> float:
    """The largest gap between neighbouring azimuths, 0 to 360 degrees; a hull needs small ones."""
    azimuth = np.sort(np.mod(cameras.azimuth_deg.astype(np.float64), 360.0))
    return float(np.diff(azimuth, append=azimuth[0] + 360.0).max())


def _opacity(
    alpha: UInt8[np.ndarray, "height width"], camera: Cameras, points: Float32[np.ndarray, "point 3"]
) -> Float32[np.ndarray, " point"]:
    side = len(alpha)
    position, depth = project(camera, points)
    place = np.nan_to_num(position[0].T[::-1]) * side - 0.5  # rows, then columns
    seen = map_coordinates(alpha.astype(np.float32) / 255.0, place, order=1, mode="nearest")
    return np.asarray(np.where(depth[0] > 0, seen, 0.0), np.float32)
