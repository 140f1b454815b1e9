"""A mesh that follows given normal maps, from the visual hull.

The hull is exact where a view's outline touches the head, and lies outside of it elsewhere. Its vertices move along
their given normals by the distances that make the edges perpendicular to those normals, while vertices whose hull has
the given normal stay where they are (after Nehab et al. 2005, "Efficiently Combining Positions and Normals for Precise
3D Geometry"). The distances are the solution of a sparse linear system. A few rounds look the normals up anew, where
the moved vertices are seen.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int, UInt8
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.colours import vertex_means
from spinmeround.models.geometry.meshes import as_trimesh, vertex_normals
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.storage.records import TriangleMesh

ROUNDS = 3
CONFIDENCE_DEG = 8.0
"""Angle between the hull's and the given normal at which a position counts exp(-1) of an exact one."""
ANCHOR, LEAST = 0.1, 1e-4
"""Weight of an exact position, and the least of any, relative to the perpendicularity of one edge."""


def follow_normals(
    hull: TriangleMesh,
    cameras: Cameras,
    normals: UInt8[np.ndarray, "view height width 3"],
    mask: UInt8[np.ndarray, "view height width"],
    *,
    rounds: int = ROUNDS,
) -> TriangleMesh:
    """The hull's mesh with moved vertices; its normals are those of its faces.

    Args:
        normals: encoded normals in the world frame.
        mask: alpha of the head; only opaque pixels count.

    Raises:
        ValueError: if the views show no vertex.
    """
    decoded = decode_normals(normals, mask)
    flat = replace(hull, normals=None)
    own, start = vertex_normals(flat), hull.vertices.astype(np.float64)
    edges = np.asarray(as_trimesh(hull).edges_unique, np.int64)
    found = flat
    for _ in range(rounds):
        means, weights = vertex_means(found, cameras, decoded, mask)
        if not (weights > 0).any():
            raise ValueError("normals: no view shows a vertex of the hull; normals and masks are of different heads")
        length = np.linalg.norm(means, axis=-1, keepdims=True)
        seen = (weights > 0) & (length[:, 0] > 1e-6)
        given = np.where(seen[:, None], means / np.maximum(length, 1e-6), own)
        moved = start + _distances(start, edges, given, own, seen)[:, None] * given
        found = replace(flat, vertices=moved.astype(np.float32))
    return found


def _distances(
    start: Float64[np.ndarray, "vertex 3"],
    edges: Int[np.ndarray, "edge 2"],
    given: Float64[np.ndarray, "vertex 3"],
    own: Float64[np.ndarray, "vertex 3"],
    seen: np.ndarray,
) -> Float64[np.ndarray, " vertex"]:
    """Distances d along `given` that minimise, over edges (i, j) with normals n and over vertices with anchors w,

    (n . (start_j + d_j given_j - start_i - d_i given_i))^2 + w d^2.
    """
    first, second = edges.T
    along = start[second] - start[first]
    normal = given[first] + given[second]
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    numbers = np.arange(len(edges))
    slopes = coo_array(
        (
            np.concatenate([(normal * given[second]).sum(-1), -(normal * given[first]).sum(-1)]),
            (np.concatenate([numbers, numbers]), np.concatenate([second, first])),
        ),
        shape=(len(edges), len(start)),
    ).tocsr()
    angle = np.degrees(np.arccos(np.clip((given * own).sum(-1), -1, 1)))
    exact = np.where(seen, np.exp(-((angle / CONFIDENCE_DEG) ** 2)), 0.0)
    anchors = diags_array(LEAST + ANCHOR * exact)
    system = (slopes.T @ slopes + anchors).tocsc()
    return np.asarray(spsolve(system, -(slopes.T @ (normal * along).sum(-1))))
