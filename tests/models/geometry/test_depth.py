"""Depths of meshes by ray casting."""

import numpy as np

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.depth import mesh_depth
from spinmeround.storage.records import TriangleMesh


def test_depth_is_along_the_axis_of_the_camera() -> None:
    """A square at z = 0.1 that faces the frontal camera is 2.6 away at every pixel that it covers, not only in the
    middle."""
    corners = np.array([[-0.2, -0.2, 0.1], [0.2, -0.2, 0.1], [0.2, 0.2, 0.1], [-0.2, 0.2, 0.1]], np.float32)
    square = TriangleMesh(vertices=corners, faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    depth = mesh_depth(square, ViewGrid(azimuths=1, elevations_deg=(0.0,)).cameras(), 32)[0]
    hit = np.isfinite(depth)
    assert 0.3 < hit.mean() < 0.6
    np.testing.assert_allclose(depth[hit], 2.6, atol=1e-5)
