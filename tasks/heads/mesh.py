"""Mesh: the level set of a head's density, by marching cubes.

Artifact: `mesh.npz` with vertices (vertex, 3) float32 in the world frame, faces (face, 3) int32 and, where
`mesh.vertex_normals` is "density", normals (vertex, 3) float32.
"""

from pathlib import Path

import numpy as np

from spinmeround.models.geometry.meshes import MeshParams, density_grid, extract_mesh
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.storage.records import Identity, TriangleMesh
from spinmeround.tasks.heads.generator import generator_of, load_identity
from spinmeround.tasks.stage import Stage, StageJob


def mesh_head(generator: HeadGenerator, identity: Identity, params: MeshParams) -> TriangleMesh:
    """The closed surface of a head at `params.level`; raises ValueError where nothing reaches the level."""
    grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, params.resolution)
    return extract_mesh(grid, generator.box_warp, params)


def load_mesh(folder: Path) -> TriangleMesh:
    """The mesh in a mesh artifact."""
    with np.load(folder / "mesh.npz", allow_pickle=False) as arrays:
        return TriangleMesh(**{name: arrays[name] for name in arrays.files})


def _make(job: StageJob) -> None:
    mesh = mesh_head(generator_of(job.sections), load_identity(job.inputs["sample"]), job.sections["mesh"])
    arrays = {name: values for name, values in vars(mesh).items() if values is not None}
    np.savez(job.out / "mesh.npz", **arrays)


MESH = Stage(name="mesh", version=2, reads=("generator", "mesh"), inputs=("sample",), make=_make)
