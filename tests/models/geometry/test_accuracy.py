"""The geometry benchmark at reduced size meets its targets."""

import numpy as np

from spinmeround.models.geometry.cameras import orbit
from spinmeround.models.geometry.meshes import density_grid, extract_mesh
from spinmeround.models.geometry.params import MeshParams
from tests.benchmarks import geometry
from tests.models.geometry import solids


def test_accuracy_of_a_held_out_head_is_within_the_targets():
    """A third of the samples already meets the targets for vertices and for the median of normals."""
    cameras = geometry.views_all_around(2)
    found = geometry.measure(20_000_007, cameras=cameras, resolution=96, pixels=48, renderer="embree")
    head, pooled = geometry.accuracy([found])
    assert head | {"head": "all"} == pooled
    assert head["p95 [voxel]"] < 0.5
    assert head["normal median [deg]"] < 1.0
    assert head["p95 [deg]"] < 15.0
    assert head["missed [%]"] == 0.0
    assert {row["step"] for row in geometry.seconds([found])} >= {"density grid", "marching cubes", "normal maps"}


def test_the_baseline_renders_the_same_maps():
    """The benchmark's baseline gives the same hits and normals as the renderer."""
    mesh = extract_mesh(density_grid(solids.density, 1.0, 48), 1.0, MeshParams(resolution=48, vertex_normals="faces"))
    cameras = orbit([20.0], [10.0])
    ours = geometry.make_normal_renderer("embree", threads=1).render(mesh, cameras, 48)
    theirs = geometry.trimesh_loop(mesh, cameras, 48)
    np.testing.assert_array_equal(ours.hit, theirs.hit)
    np.testing.assert_allclose(ours.normals, theirs.normals, atol=2e-3)
