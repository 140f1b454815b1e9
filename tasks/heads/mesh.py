"""Mesh: the level set of a head's density, extracted by marching cubes.

Artifact: `mesh.npz` with vertices (vertex, 3) float32 in the world frame, faces (face, 3) int32 and, if
`mesh.vertex_normals` is "density", normals (vertex, 3) float32.
"""

from pathlib import Path

import numpy as np

from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.records import Identity, TriangleMesh
from spinmeround.tasks.heads.generator import generator_of, generator_on_gpu
from spinmeround.tasks.heads.sample_files import load_identity
from spinmeround.tasks.stage import Stage, StageJob, StageSections


class MeshSections(StageSections):
    """Sections that the mesh stage reads."""

    generator: GeneratorConfig
    mesh: MeshParams


def mesh_head(generator: HeadGenerator, identity: Identity, params: MeshParams) -> TriangleMesh:
    """The closed surface of a head at `params.level`; raises ValueError if the density does not reach the level."""
    from spinmeround.models.geometry.meshes import density_grid, extract_mesh

    grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, params.resolution)
    return extract_mesh(grid, generator.box_warp, params)


def load_mesh(folder: Path) -> TriangleMesh:
    """The mesh in a mesh artifact."""
    with np.load(folder / "mesh.npz", allow_pickle=False) as arrays:
        return TriangleMesh(**{name: arrays[name] for name in arrays.files})


def _on_gpu(sections: MeshSections) -> bool:
    return generator_on_gpu(sections.generator)


def _make(job: StageJob[MeshSections]) -> None:
    identity = load_identity(job.inputs["sample"])
    mesh = mesh_head(generator_of(job.sections.generator), identity, job.sections.mesh)
    arrays = {name: values for name, values in vars(mesh).items() if values is not None}
    np.savez(job.out / "mesh.npz", **arrays)


MESH = Stage(name="mesh", version=2, sections_type=MeshSections, inputs=("sample",), gpu=_on_gpu, make=_make)
