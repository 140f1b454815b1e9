"""The mesh that follows normal maps, on solids whose surface and normals are known."""

import numpy as np
import pytest
import trimesh

from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.models.geometry.hull import visual_hull
from spinmeround.models.geometry.meshes import as_trimesh, vertex_normals
from spinmeround.models.geometry.normals import encode_normals
from spinmeround.models.reconstruction.refinement import follow_normals
from spinmeround.storage.records import TriangleMesh
from tests.models.geometry import solids
from tests.models.reconstruction.balls import CENTRE, RADIUS, ball

RING = ViewGrid(azimuths=8, elevations_deg=(-30.0, 30.0), focal=2.8).cameras()
"""Wide enough for the bumps."""
SIDE = 96


def views_of(cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Encoded normals and masks of the bumpy solid."""
    normals, hit = solids.normal_maps(cameras, SIDE)
    mask = np.where(hit, 255, 0).astype(np.uint8)
    return encode_normals(normals, mask), mask


def angles_deg(mesh: TriangleMesh) -> np.ndarray:
    """Angles between a mesh's vertex normals and the solid's gradient at the nearest place of it."""
    step = 1e-4
    gradient = np.stack(
        [
            (solids.signed_distance(mesh.vertices + step * axis) - solids.signed_distance(mesh.vertices - step * axis))
            for axis in np.eye(3)
        ],
        axis=-1,
    ) / (2 * step)
    return np.degrees(np.arccos(np.clip((vertex_normals(mesh) * gradient).sum(-1), -1, 1)))


def test_a_bumpy_solid_is_nearer_to_the_truth_than_its_hull() -> None:
    """Distances to the surface and angles of the normals are less than two thirds of the hull's, which has no
    hollows between the bumps; the mesh stays closed."""
    normals, mask = views_of(RING)
    hull = visual_hull(RING, mask, resolution=64)
    found = follow_normals(hull, RING, normals, mask)
    before, after = (np.abs(solids.signed_distance(each.vertices)).mean() for each in (hull, found))
    assert after < 0.67 * before
    assert angles_deg(found).mean() < 0.67 * angles_deg(TriangleMesh(vertices=hull.vertices, faces=hull.faces)).mean()
    assert as_trimesh(found).is_watertight


def test_an_exact_surface_stays() -> None:
    """A ball's mesh with the given normals moves by less than a thousandth of its radius on average, 1% at most."""
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=RADIUS)
    mesh = TriangleMesh(vertices=(sphere.vertices + CENTRE).astype(np.float32), faces=sphere.faces.astype(np.int32))
    views = ball(SIDE, ViewGrid(azimuths=8, elevations_deg=(-30.0, 30.0)))
    mask = np.where(np.linalg.norm(views.normals, axis=-1) > 0, 255, 0).astype(np.uint8)
    found = follow_normals(mesh, views.cameras, encode_normals(views.normals, mask), mask)
    moved = np.abs(np.linalg.norm(found.vertices - CENTRE, axis=-1) / RADIUS - 1)
    assert moved.mean() < 0.001
    assert moved.max() < 0.01


def test_views_of_another_place_are_refused() -> None:
    """Masks that are opaque nowhere on the mesh give an error that says so."""
    normals, mask = views_of(RING)
    hull = visual_hull(RING, mask, resolution=32)
    with pytest.raises(ValueError, match="no view shows a vertex"):
        follow_normals(hull, RING, normals, np.zeros_like(mask))
