"""Extraction of a closed triangle mesh from a density field, and mesh statistics.

A grid is indexed [x, y, z] in the world frame of `models.geometry.cameras`. Samples are at
`linspace(-box_warp / 2, box_warp / 2, resolution)` on each axis; the outermost samples lie on the faces of the box. The
surface is where the density crosses `MeshParams.level`; larger is inside.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mcubes
import numpy as np
import trimesh
from jaxtyping import Bool, Float, Float32, Float64, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from spinmeround.models.geometry.params import MeshParams
from spinmeround.storage.records import TriangleMesh

DensityField = Callable[[Float32[np.ndarray, "point 3"]], Float32[np.ndarray, " point"]]

DENSITY_CHUNK = 1 << 18
"""Points per call of a density field."""

_EMPTY_DEPTH = 1e3
"""Depth of an emptied sample below the level, in units of the largest density above it. The closing surface is then at
most 1/1000 of a voxel away from the last kept sample."""


@dataclass(frozen=True, kw_only=True)
class MeshStatistics:
    """Properties of a mesh; piece volumes are in cubic world units, in descending order.

    A piece that bounds a cavity of another one has a negative volume.
    """

    piece_volumes: tuple[float, ...]
    watertight: bool

    @property
    def pieces(self) -> int:
        """Number of connected pieces."""
        return len(self.piece_volumes)


def density_grid(
    density: DensityField, box_warp: float, resolution: int, chunk: int = DENSITY_CHUNK
) -> Float32[np.ndarray, "x y z"]:
    """Samples of a density field on a regular grid.

    Needs `4 * resolution**3` bytes for the result, and at most 64 bytes per point of a chunk in addition to what
    `density` itself needs.

    Raises:
        ValueError: if the number of values differs from the number of points, or a value is not finite.
    """
    axis = np.linspace(-box_warp / 2, box_warp / 2, resolution).astype(np.float32)
    grid = np.empty(resolution**3, np.float32)
    for start in range(0, grid.size, chunk):
        flat = np.arange(start, min(start + chunk, grid.size))
        points = np.stack([axis[index] for index in np.unravel_index(flat, (resolution,) * 3)], axis=-1)
        values = density(points)
        if values.shape != flat.shape or not np.isfinite(values).all():
            raise ValueError(
                f"density: expected {len(flat)} finite values for {len(flat)} points, got shape {values.shape} "
                f"with {np.count_nonzero(~np.isfinite(values))} not finite; check the generator's weights"
            )
        grid[flat] = values
    return grid.reshape((resolution,) * 3)


def extract_mesh(grid: Float32[np.ndarray, "x y z"], box_warp: float, params: MeshParams) -> TriangleMesh:
    """The surface `grid == params.level` by marching cubes (Lorensen and Cline 1987), closed at the faces of the box.

    Vertices lie on grid edges where linear interpolation crosses the level. Trimmed samples and everything outside the
    box are empty, so the mesh is watertight. Faces wind counter-clockwise seen from outside. Removes pieces, including
    cavities, that enclose less than `params.min_piece_share` of the largest piece's volume. With
    `params.vertex_normals = "density"`, vertex normals come from central differences of the grid. Needs 8 bytes per
    sample in addition to the grid, and 500 per vertex.

    Raises:
        ValueError: if the grid is not a cube of `params.resolution`, or has no value above the level.
    """
    if grid.shape != (params.resolution,) * 3:
        raise ValueError(f"grid: expected {(params.resolution,) * 3} samples (mesh.resolution), got {grid.shape}")
    closed = _closed_grid(grid, params)
    places, faces = mcubes.marching_cubes(closed, params.level)
    places, faces = _keep_pieces(places, faces.astype(np.int64), params.min_piece_share)
    vertices = (places - 1.0) * (box_warp / (params.resolution - 1)) - box_warp / 2
    slopes = _density_normals(closed, places) if params.vertex_normals == "density" else None
    return TriangleMesh(vertices=vertices.astype(np.float32), faces=faces.astype(np.int32), normals=slopes)


def vertex_normals(mesh: TriangleMesh) -> Float64[np.ndarray, "vertex 3"]:
    """Unit vertex normals: the mesh's own if it has any, otherwise the angle-weighted mean of the adjacent faces.

    On the uneven triangles of marching cubes, angle weights are more accurate than area weights (Thuermer and Wuethrich
    1998).
    """
    if mesh.normals is not None:
        return mesh.normals.astype(np.float64)
    return np.array(as_trimesh(mesh).vertex_normals, np.float64)


def mesh_statistics(grid: Float32[np.ndarray, "x y z"], box_warp: float, params: MeshParams) -> MeshStatistics:
    """Statistics of a density grid's surface before small pieces are removed; no pieces if the grid is empty.

    Raises:
        ValueError: if the grid is not a cube of `params.resolution`.
    """
    if not (grid > params.level).any():
        return MeshStatistics(piece_volumes=(), watertight=False)
    mesh = extract_mesh(grid, box_warp, params.model_copy(update={"min_piece_share": 0.0, "vertex_normals": "faces"}))
    pieces = _piece_labels(mesh.faces.astype(np.int64), len(mesh.vertices))
    volumes = _piece_volumes(mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64), pieces)
    return MeshStatistics(
        piece_volumes=tuple(sorted(volumes.tolist(), reverse=True)),
        watertight=bool(as_trimesh(mesh).is_watertight),
    )


def as_trimesh(mesh: TriangleMesh) -> trimesh.Trimesh:
    """The mesh as a trimesh object, with vertices and faces in the same order."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def _closed_grid(grid: Float32[np.ndarray, "x y z"], params: MeshParams) -> Float64[np.ndarray, "xp yp zp"]:
    """The grid with trimmed samples emptied, inside a layer of empty samples."""
    side = int(params.trim_border * params.resolution)
    top = side if params.trim_top is None else int(params.trim_top * params.resolution)
    end = params.resolution - side
    kept = (slice(side, end), slice(side, params.resolution - top), slice(side, end))
    highest = float(grid[kept].max(initial=-np.inf))
    if not highest > params.level:
        raise ValueError(
            f"mesh.level: expected some density above {params.level}, got at most {highest:.4g}; "
            "lower the level, trim less, or exclude this head"
        )
    empty = params.level - _EMPTY_DEPTH * (highest - params.level)
    closed = np.full([size + 2 for size in grid.shape], empty)
    closed[1:-1, 1:-1, 1:-1][kept] = grid[kept]
    return closed


def _density_normals(
    closed: Float64[np.ndarray, "xp yp zp"], places: Float64[np.ndarray, "vertex 3"]
) -> Float32[np.ndarray, "vertex 3"]:
    """Unit normals at the vertices of marching cubes, from gradients interpolated between the ends of the vertex's
    edge.

    Along the edge, the density decreases outwards. Where the interpolated gradient contradicts this (a part thinner
    than the differences are wide), or where the edge ends in an emptied sample (a cut by the box or the trimming), the
    difference along the edge replaces the gradient.
    """
    low, high = np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
    edge, share = high - low, (places - low).sum(axis=-1, keepdims=True)
    at_low, at_high = closed[tuple(low.T)], closed[tuple(high.T)]
    slope = (1.0 - share) * _slopes(closed, low) + share * _slopes(closed, high)
    fall = edge * (at_high - at_low)[:, None]
    cut = np.minimum(at_low, at_high) == closed[0, 0, 0]
    contradicted = (slope * fall).sum(axis=-1) <= 0
    slope = np.where((edge > 0) & (cut | contradicted)[:, None], fall, slope)
    return np.asarray(-slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-30), np.float32)


def _slopes(
    closed: Float64[np.ndarray, "xp yp zp"], samples: Int[np.ndarray, "vertex 3"]
) -> Float64[np.ndarray, "vertex 3"]:
    """Central differences of the grid, in density per sample; one-sided next to emptied samples."""
    empty = closed[0, 0, 0]
    here = closed[tuple(samples.T)]
    slopes = np.empty(samples.shape)
    for axis, step in enumerate(np.eye(3, dtype=np.int64)):
        before, after = (
            closed[tuple(np.clip(samples + sign * step, 0, np.array(closed.shape) - 1).T)] for sign in (-1, 1)
        )
        sides = (before != empty).astype(np.float64) + (after != empty)
        before, after = np.where(before == empty, here, before), np.where(after == empty, here, after)
        slopes[:, axis] = (after - before) / np.maximum(sides, 1.0)
    return slopes


def _piece_labels(faces: Int[np.ndarray, "face 3"], vertices: int) -> Int[np.ndarray, " face"]:
    """The connected piece that each face belongs to."""
    start, end = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_array((np.ones(len(start), bool), (start, end)), shape=(vertices, vertices))
    return np.asarray(connected_components(graph, directed=False)[1][faces[:, 0]])


def _piece_volumes(
    vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"], labels: Int[np.ndarray, " face"]
) -> Float64[np.ndarray, " piece"]:
    """Signed volume that each piece encloses: the sum of its tetrahedra with the origin."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.bincount(labels, weights=np.einsum("fi,fi->f", a, np.cross(b, c)) / 6)


def _keep_pieces(
    vertices: Float64[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"], share: float
) -> tuple[Float64[np.ndarray, "kept_vertex 3"], Int[np.ndarray, "kept_face 3"]]:
    labels = _piece_labels(faces, len(vertices))
    volumes = np.abs(_piece_volumes(vertices, faces, labels))
    kept_faces: Bool[np.ndarray, " face"] = (volumes >= share * volumes.max())[labels]
    used, renumbered = np.unique(faces[kept_faces], return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3)
