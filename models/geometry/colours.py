"""Vertex colours of a mesh from images of it."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from spinmeround.models.geometry.cameras import Cameras, project
from spinmeround.models.geometry.meshes import vertex_normals
from spinmeround.models.geometry.normals_embree import embree_scene
from spinmeround.storage.records import TriangleMesh

MIN_FACING = 0.2
"""Smallest cosine between a vertex normal and the direction to the camera at which a view counts. Below it a pixel
covers a large part of the surface, and often what lies behind."""


def vertex_colours(
    mesh: TriangleMesh,
    cameras: Cameras,
    rgb: UInt8[np.ndarray, "view height width 3"],
    mask: UInt8[np.ndarray, "view height width"],
) -> UInt8[np.ndarray, "vertex 3"]:
    """The mean colour of each vertex over all views, as `vertex_means`.

    A vertex that no view sees (inside a fold) copies the colour of its nearest neighbour.

    Raises:
        ValueError: if the views show no vertex.
    """
    return _filled(mesh, *vertex_means(mesh, cameras, rgb, mask))


def vertex_means(
    mesh: TriangleMesh,
    cameras: Cameras,
    values: UInt8[np.ndarray, "view height width 3"] | Float32[np.ndarray, "view height width 3"],
    mask: UInt8[np.ndarray, "view height width"],
) -> tuple[Float64[np.ndarray, "vertex 3"], Float64[np.ndarray, " vertex"]]:
    """The mean of a picture's values at each vertex over all views, weighted by the fourth power of the facing cosine.

    Returns means and sums of weights, both zero for a vertex that no view sees. A view counts if it sees the vertex and
    the four surrounding pixels are fully inside the mask, which excludes the background.
    """
    normals, scene = vertex_normals(mesh), embree_scene(mesh)
    total, weights = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    tolerance = 0.5 * float(np.median(np.linalg.norm(np.diff(mesh.vertices[mesh.faces[:, :2]], axis=1), axis=-1)))
    for view in range(len(cameras)):
        to_camera = cameras.cam2world[view, :3, 3] - mesh.vertices
        distance = np.linalg.norm(to_camera, axis=-1)
        facing = (normals * to_camera).sum(axis=-1) / distance
        shown = np.flatnonzero(facing > MIN_FACING)
        places = _places(cameras[[view]], mesh, shown, mask.shape[1])
        within = _inside(mask[view], places)
        shown, places = shown[within], places[within]
        origins = np.broadcast_to(cameras.cam2world[view, :3, 3], (len(shown), 3))
        rays = np.ascontiguousarray(-to_camera[shown] / distance[shown, None], np.float32)
        hits = scene.run(np.ascontiguousarray(origins), rays, output=True) if len(shown) else {"tfar": np.zeros(0)}
        free = hits["tfar"] > distance[shown] - tolerance
        shown, places = shown[free], places[free]
        weight = facing[shown] ** 4
        total[shown] += weight[:, None] * np.stack([_sampled(values[view, ..., c], places) for c in range(3)], axis=-1)
        weights[shown] += weight
    return total / np.maximum(weights, 1e-12)[:, None], weights


def _places(cameras: Cameras, mesh: TriangleMesh, vertices: np.ndarray, side: int) -> Float64[np.ndarray, "vertex 2"]:
    """Rows and columns of vertices in the image; integers at pixel centres."""
    pixels, _ = project(cameras, mesh.vertices[vertices])
    return pixels[0, :, ::-1] * side - 0.5


def _inside(mask: UInt8[np.ndarray, "height width"], places: Float64[np.ndarray, "vertex 2"]) -> Bool[np.ndarray, " v"]:
    """Whether all pixels used by bilinear interpolation at a position are fully inside the mask."""
    inside: Bool[np.ndarray, " v"] = _sampled(mask == 255, places) > 1.0 - 1e-9
    return inside


def _sampled(values: np.ndarray, places: Float64[np.ndarray, "vertex 2"]) -> Float64[np.ndarray, " vertex"]:
    """Bilinear interpolation; zero outside the image."""
    sampled: Float64[np.ndarray, " vertex"] = map_coordinates(
        values, places.T, output=np.float64, order=1, mode="constant"
    )
    return sampled


def _filled(
    mesh: TriangleMesh, colours: Float64[np.ndarray, "vertex 3"], weights: Float64[np.ndarray, " vertex"]
) -> UInt8[np.ndarray, "vertex 3"]:
    """Colours as bytes; vertices without weight copy their nearest neighbour's."""
    seen = weights > 0
    if not seen.any():
        raise ValueError("colours: no view shows a vertex of the mesh; mesh and images are of different heads")
    nearest = cKDTree(mesh.vertices[seen]).query(mesh.vertices)[1]
    levels: np.ndarray = np.rint(np.clip(colours[seen][nearest], 0, 255))
    return levels.astype(np.uint8)
