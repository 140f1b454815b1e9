from dataclasses import replace

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid, orbit
from spinmeround.models.geometry.colours import vertex_colours
from spinmeround.models.geometry.meshes import density_grid, extract_mesh
from spinmeround.models.geometry.params import MeshParams
from tests.models.geometry import solids

MAGENTA = np.array([255, 0, 255], np.uint8)


@pytest.fixture(scope="module")
def solid():
    return extract_mesh(density_grid(solids.density, 1.0, 64), 1.0, MeshParams(resolution=64))


def painted(normals):
    """A colour that depends on the normal and is never close to magenta."""
    return np.rint(np.asarray(normals) * [60, 60, 60] + [90, 130, 90]).astype(np.uint8)


def images(cameras, side=96):
    normals, hit = solids.normal_maps(cameras, side)
    return np.where(hit[..., None], painted(normals), MAGENTA), hit.astype(np.uint8) * 255


def true_colours(mesh):
    """The true colours of vertices, and which vertices are 3 voxels or more from the seam of two balls."""
    towards = mesh.vertices[:, None] - solids.CENTRES  # vertex ball 3
    distance = np.linalg.norm(towards, axis=-1) - solids.RADII
    nearest, apart = distance.argmin(axis=-1), np.sort(distance, axis=-1)
    normals = towards[np.arange(len(nearest)), nearest] / solids.RADII[nearest, None]
    return painted(normals).astype(int), apart[:, 1] - apart[:, 0] > 3 / 63


def test_vertices_get_their_true_colours(solid):
    """Neither occluding bumps nor the magenta background bleed into the colours."""
    cameras = ViewGrid(azimuths=12).cameras()
    colours = vertex_colours(solid, cameras, *images(cameras)).astype(int)
    expected, clear = true_colours(solid)
    error = np.abs(colours - expected).max(axis=-1)
    assert np.percentile(error[clear], 95) < 4
    assert error[clear].max() < 15
    assert np.abs(colours - MAGENTA).sum(axis=-1).min() > 150


def test_a_hidden_vertex_copies_a_visible_neighbour(solid):
    """With one camera, the far side has colours of visible vertices and the near side its true colours."""
    camera = orbit([0.0], [0.0])
    colours = vertex_colours(solid, camera, *images(camera)).astype(int)
    expected, clear = true_colours(solid)
    front = clear & (solid.normals[:, 2] > 0.5) & (solid.vertices[:, 2] > 0.23)
    assert np.abs(colours - expected)[front].max() < 8
    assert len(np.unique(colours[solid.normals[:, 2] < -0.5], axis=0)) > 10
    assert np.abs(colours - MAGENTA).sum(axis=-1).min() > 150


def test_images_of_another_object_are_refused(solid):
    """A mesh outside all views raises an error."""
    camera = orbit([0.0], [0.0])
    away = replace(solid, vertices=solid.vertices + np.float32(9))
    with pytest.raises(ValueError, match="no view shows a vertex"):
        vertex_colours(away, camera, *images(camera))
