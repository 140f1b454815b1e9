"""The benchmark of vertex normals has exact reference normals."""

import numpy as np

from tests.benchmarks.vertex_normals import CENTRES, RADII, depth_voxels, errors, exact_normals


def test_exact_normals_are_the_gradient_of_the_depth() -> None:
    """On each ball the normal is the direction from its centre."""
    directions = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(exact_normals(CENTRES + RADII[:, None] * directions), directions)


def test_a_linear_density_gives_better_normals_than_the_faces() -> None:
    """The median angle is several times smaller from a linear density than from the faces, which are flat."""
    grid = (10 + depth_voxels(32)).astype(np.float32)
    density, faces = (float(errors(grid, source).split(" / ")[0]) for source in ("density", "faces"))
    assert density < 0.25 * faces < 2.0
