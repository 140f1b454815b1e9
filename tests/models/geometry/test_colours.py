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
    """A colour that follows from the normal, so that it tells the balls' sides apart; never near to magenta."""
    return np.rint(np.asarray(normals) * [60, 60, 60] + [90, 130, 90]).astype(np.uint8)


def pictures(cameras, side=96):
    normals, hit = solids.picture(cameras, side)
    return np.where(hit[..., None], painted(normals), MAGENTA), hit.astype(np.uint8) * 255


def true_colours(mesh):
    """The paint at the vertices, and which of them are some voxels away from where two balls meet."""
    towards = mesh.vertices[:, None] - solids.CENTRES  # vertex ball 3
    distance = np.linalg.norm(towards, axis=-1) - solids.RADII
    nearest, apart = distance.argmin(axis=-1), np.sort(distance, axis=-1)
    normals = towards[np.arange(len(nearest)), nearest] / solids.RADII[nearest, None]
    return painted(normals).astype(int), apart[:, 1] - apart[:, 0] > 3 / 63


def test_vertices_get_the_colour_that_is_painted_there(solid):
    """Bumps hide each other in many views, and the background is magenta: neither leaves a trace on the solid."""
    cameras = ViewGrid(azimuths=12).cameras()
    colours = vertex_colours(solid, cameras, *pictures(cameras)).astype(int)
    expected, clear = true_colours(solid)
    error = np.abs(colours - expected).max(axis=-1)
    assert np.percentile(error[clear], 95) < 4
    assert error[clear].max() < 15
    assert np.abs(colours - MAGENTA).sum(axis=-1).min() > 150


def test_a_hidden_vertex_takes_its_neighbour_s_colour(solid):
    """From one camera the far side is not seen: its vertices have colours of seen ones, and the near side is right."""
    camera = orbit([0.0], [0.0])
    colours = vertex_colours(solid, camera, *pictures(camera)).astype(int)
    expected, clear = true_colours(solid)
    front = clear & (solid.normals[:, 2] > 0.5) & (solid.vertices[:, 2] > 0.23)
    assert np.abs(colours - expected)[front].max() < 8
    assert len(np.unique(colours[solid.normals[:, 2] < -0.5], axis=0)) > 10
    assert np.abs(colours - MAGENTA).sum(axis=-1).min() > 150


def test_pictures_of_something_else_are_an_error(solid):
    """A mesh that no view shows has no colours."""
    camera = orbit([0.0], [0.0])
    away = replace(solid, vertices=solid.vertices + np.float32(9))
    with pytest.raises(ValueError, match="no view shows a vertex"):
        vertex_colours(away, camera, *pictures(camera))
