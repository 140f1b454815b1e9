"""Vertex normals from the density and from the faces, by how fast the density falls off at the surface.

The surface is a union of three balls, whose exact normals are known.
"""

from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Float, Float32

from spinmeround.models.geometry.meshes import extract_mesh, vertex_normals
from spinmeround.models.geometry.params import MeshParams

CENTRES = np.array([[0.0, -0.05, 0.0], [0.0, 0.22, 0.1], [0.15, -0.1, 0.12]])
RADII = np.array([0.25, 0.12, 0.1])
WIDTHS_VOXELS = (0.25, 0.5, 1.0, 2.0)


def main(
    resolution: Annotated[int, typer.Option(min=16, help="Samples of the density per side of the cube.")] = 96,
) -> dict[str, list[dict[str, Any]]]:
    """Angle between vertex normals and the exact normals."""
    depth = depth_voxels(resolution)
    grids = {str(width): 20 / (1 + np.exp(-np.clip(depth / width, -50, 50))) for width in WIDTHS_VOXELS}
    grids["linear"] = 10 + depth
    rows = [
        {"width [voxel]": width} | {source: errors(grid.astype(np.float32), source) for source in ("density", "faces")}
        for width, grid in grids.items()
    ]
    return {"median / 95th percentile of the angle, in degrees": rows}


def depth_voxels(resolution: int) -> Float[np.ndarray, "x y z"]:
    """Signed depth below the surface at the samples of the grid, in voxels; positive inside."""
    axis = np.linspace(-0.5, 0.5, resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    distance = np.linalg.norm(points[..., None, :] - CENTRES, axis=-1) - RADII
    return -distance.min(axis=-1) * (resolution - 1)


def exact_normals(points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
    """Outward unit normals of the ball whose surface is nearest."""
    offsets = points[:, None] - CENTRES  # point ball 3
    lengths = np.linalg.norm(offsets, axis=-1)
    nearest = np.argmin(lengths - RADII, axis=1)
    rows = np.arange(len(points))
    return offsets[rows, nearest] / lengths[rows, nearest, None]


def errors(grid: Float32[np.ndarray, "x y z"], source: str) -> str:
    """Median and 95th percentile of the angle at the vertices, as text."""
    params = MeshParams(resolution=len(grid), level=10.0, vertex_normals=source)
    mesh = extract_mesh(grid, 1.0, params)
    cosine = np.clip((vertex_normals(mesh) * exact_normals(mesh.vertices)).sum(axis=-1), -1, 1)
    median, high = np.percentile(np.degrees(np.arccos(cosine)), [50, 95])
    return f"{median:.2g} / {high:.2g}"
