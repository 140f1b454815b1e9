"""From a density field to a closed triangle mesh, and what can be measured on one.

A grid is indexed [x, y, z] in the world frame of `models.geometry.cameras`; its samples stand at
`linspace(-box_warp / 2, box_warp / 2, resolution)` on each axis, so that the outermost ones lie on the
faces of the box. The surface is where the density crosses `MeshParams.level`; larger is inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mcubes
import numpy as np
import trimesh
from jaxtyping import Bool, Float, Float32, Float64, Int
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from spinmeround.storage.records import FrozenModel, TriangleMesh

DensityField = Callable[[Float32[np.ndarray, "point 3"]], Float32[np.ndarray, " point"]]

DENSITY_CHUNK = 1 << 18
"""Points that a density field is asked for at once."""

_EMPTY_DEPTH = 1e3
"""How far below the level an emptied sample lies, in units of the density's height above the level: the
surface that closes the mesh is then at most 1/1000 of a voxel away from the last kept sample."""


class MeshParams(FrozenModel):
    """How a density grid becomes a mesh.

    PanoHead's own script empties 30/256 of the grid at each face and 38/256 at the top.
    """

    level: float = Field(10.0, description="Density on the surface")
    resolution: int = Field(256, ge=8, le=1024, description="Samples of the density grid along each axis")
    trim_border: float = Field(0.0, ge=0.0, lt=0.5, description="Share of the grid emptied at each face of the box")
    trim_top: float | None = Field(
        None, ge=0.0, lt=0.5, description="Share emptied at the top face (+y); as trim_border where it is not given"
    )
    min_piece_share: float = Field(
        0.01, ge=0.0, le=1.0, description="Pieces that enclose less than this share of the largest's volume are removed"
    )
    vertex_normals: Literal["density", "faces"] = Field(
        "density",
        description="Where the vertices' normals come from: the density's slope, better where the density falls over "
        "more than two samples at the surface; or the faces round the vertex, better where it falls faster",
    )


@dataclass(frozen=True, kw_only=True)
class MeshStatistics:
    """What screening looks at; volumes in cubic world units, the pieces' sorted from large to small.

    A piece that bounds a cavity inside another has a negative volume.
    """

    piece_volumes: tuple[float, ...]
    watertight: bool

    @property
    def pieces(self) -> int:
        return len(self.piece_volumes)


def density_grid(
    density: DensityField, box_warp: float, resolution: int, chunk: int = DENSITY_CHUNK
) -> Float32[np.ndarray, "x y z"]:
    """Samples of a density field on a regular grid.

    Takes `4 * resolution**3` bytes for the result and, at any moment, at most 64 bytes for each of `chunk`
    points beside what `density` itself needs for them.

    Raises:
        ValueError: if the field gives another number of values than points, or one that is not finite.
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
                f"with {np.count_nonzero(~np.isfinite(values))} that are not finite; check the generator's weights"
            )
        grid[flat] = values
    return grid.reshape((resolution,) * 3)


def extract_mesh(grid: Float32[np.ndarray, "x y z"], box_warp: float, params: MeshParams) -> TriangleMesh:
    """The surface `grid == params.level` by marching cubes (Lorensen and Cline 1987), closed at the box's faces.

    Vertices lie on the grid's edges where linear interpolation meets the level. The trimmed samples and all
    outside of the box count as empty, so the mesh is watertight. Faces wind counter-clockwise seen from outside.
    Pieces below `params.min_piece_share` of the largest one's enclosed volume are removed, cavities too.
    With `params.vertex_normals = "density"` the vertices have normals from the grid's central differences.
    Takes 8 bytes a sample beside the grid, and 500 a vertex.

    Raises:
        ValueError: if the grid is not a cube of `params.resolution`, or nothing in it is above the level.
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
    """Unit normals of the vertices: the mesh's own, else the mean of the faces there, weighted by their angles.

    On marching cubes' uneven triangles weights by angle are nearer to the true normals than by area
    (Thuermer and Wuethrich 1998).
    """
    if mesh.normals is not None:
        return mesh.normals.astype(np.float64)
    return np.array(as_trimesh(mesh).vertex_normals, np.float64)


def mesh_statistics(grid: Float32[np.ndarray, "x y z"], box_warp: float, params: MeshParams) -> MeshStatistics:
    """Measures the solid in a density grid as it is, before small pieces are removed; no piece where it is empty.

    Raises:
        ValueError: where the grid is not of `params.resolution`.
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
    """The same vertices and faces, in the same order, for trimesh's tools."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def _closed_grid(grid: Float32[np.ndarray, "x y z"], params: MeshParams) -> Float64[np.ndarray, "xp yp zp"]:
    """The grid with trimmed samples emptied and a layer of empty samples round it."""
    side = int(params.trim_border * params.resolution)
    top = side if params.trim_top is None else int(params.trim_top * params.resolution)
    end = params.resolution - side
    kept = (slice(side, end), slice(side, params.resolution - top), slice(side, end))
    highest = float(grid[kept].max(initial=-np.inf))
    if not highest > params.level:
        raise ValueError(
            f"mesh.level: nothing of the density is above {params.level} (its largest value is {highest:.4g}); "
            "lower the level, trim less, or leave this head out"
        )
    empty = params.level - _EMPTY_DEPTH * (highest - params.level)
    closed = np.full([size + 2 for size in grid.shape], empty)
    closed[1:-1, 1:-1, 1:-1][kept] = grid[kept]
    return closed


def _density_normals(
    closed: Float64[np.ndarray, "xp yp zp"], places: Float64[np.ndarray, "vertex 3"]
) -> Float32[np.ndarray, "vertex 3"]:
    """Unit normals at marching cubes' vertices: the slopes at both ends of the vertex's edge, interpolated.

    Along the edge itself the density is known to fall outwards. Where the interpolated slope denies that (a part
    thinner than the differences are wide) or the edge ends in an emptied sample (a cut by the box or the
    trimming, which then looks along the edge), the fall between the edge's ends stands for its component.
    """
    low, high = np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
    edge, share = high - low, (places - low).sum(axis=-1, keepdims=True)
    at_low, at_high = closed[tuple(low.T)], closed[tuple(high.T)]
    slope = (1.0 - share) * _slopes(closed, low) + share * _slopes(closed, high)
    fall = edge * (at_high - at_low)[:, None]
    cut = np.minimum(at_low, at_high) == closed[0, 0, 0]
    denied = (slope * fall).sum(axis=-1) <= 0
    slope = np.where((edge > 0) & (cut | denied)[:, None], fall, slope)
    return np.asarray(-slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-30), np.float32)


def _slopes(
    closed: Float64[np.ndarray, "xp yp zp"], samples: Int[np.ndarray, "vertex 3"]
) -> Float64[np.ndarray, "vertex 3"]:
    """Central differences at samples of the grid, per sample; one-sided next to emptied samples."""
    empty = closed[0, 0, 0]
    here = closed[tuple(samples.T)]
    slopes = np.empty(samples.shape)
    for axis, step in enumerate(np.eye(3, dtype=np.int64)):
        before, after = (
            closed[tuple(np.clip(samples + way * step, 0, np.array(closed.shape) - 1).T)] for way in (-1, 1)
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
