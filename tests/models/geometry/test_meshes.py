import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from spinmeround.models.geometry.meshes import as_trimesh, density_grid, extract_mesh, mesh_statistics, vertex_normals
from spinmeround.models.geometry.params import MeshParams
from spinmeround.models.metrics import normal_angular_error_deg
from spinmeround.storage.records import TriangleMesh
from tests.models.geometry import solids


def balls(*spheres):
    """The density of balls, each (centre, radius); a negative radius is a cavity."""

    def density(points):
        distance = np.full(len(points), np.inf)
        for centre, radius in spheres:
            to_ball = np.linalg.norm(points - np.asarray(centre), axis=-1) - abs(radius)
            distance = np.maximum(distance, -to_ball) if radius < 0 else np.minimum(distance, to_ball)
        return np.clip(10.0 * (1.0 - distance / 0.05), -20.0, 20.0).astype(np.float32)

    return density


def mesh_of(density, resolution=48, box_warp=1.0, **params):
    params = MeshParams(resolution=resolution, **params)
    return extract_mesh(density_grid(density, box_warp, resolution), box_warp, params)


def test_grid_indexing_and_extent():
    """grid[i, j, k] is the density at (x_i, y_j, z_k), with samples on both faces of the box on every axis."""
    grid = density_grid(lambda p: p @ np.array([1, 10, 100], np.float32), 2.0, 5)
    axis = np.linspace(-1, 1, 5)
    expected = axis[:, None, None] + 10 * axis[:, None] + 100 * axis
    np.testing.assert_allclose(grid, expected, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 7, 100, 10**6])
def test_the_grid_does_not_depend_on_the_chunk(chunk):
    """Bit-identical for any chunk size; no call has more points than a chunk."""
    sizes = []

    def density(points):
        sizes.append(len(points))
        return solids.density(points)

    grid = density_grid(density, 1.0, 6, chunk)
    np.testing.assert_array_equal(grid, density_grid(solids.density, 1.0, 6))
    assert max(sizes) <= chunk
    assert sum(sizes) == 6**3


def peak_memory(work: Callable[[], object]) -> int:
    """Bytes that the work takes, the least of three measurements: threads that other tests left allocate, too."""
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(peaks)


def test_memory_of_the_grid_is_as_documented():
    """At most 4 bytes per sample for the result and 64 per point of the chunk."""
    values = np.zeros(10_000, np.float32)
    peak = peak_memory(lambda: density_grid(lambda points: values[: len(points)], 1.0, 100, 10_000))
    assert peak < 4 * 100**3 + 64 * 10_000 + 50_000


def test_memory_of_the_mesh_is_as_documented():
    """At most 8 bytes per sample in addition to the grid, and 500 per vertex."""
    grid = density_grid(solids.density, 1.0, 64)
    vertices = len(extract_mesh(grid, 1.0, MeshParams(resolution=64)).vertices)
    peak = peak_memory(lambda: extract_mesh(grid, 1.0, MeshParams(resolution=64)))
    assert peak < 8 * 66**3 + 500 * vertices + 50_000


def test_a_density_that_is_not_finite_is_refused():
    """NaN from a generator raises an error with their number."""
    with pytest.raises(ValueError, match="27 not finite"):
        density_grid(lambda p: np.full(len(p), np.nan, np.float32), 1.0, 3)


@pytest.mark.parametrize("box_warp", [1.0, 1.6])
def test_a_plane_is_exact(box_warp):
    """For a linear density the surface is exact to float precision, without a half-voxel shift on any axis."""
    for axis in range(3):
        mesh = mesh_of(lambda p, axis=axis: 10.0 - 30.0 * (p[:, axis] - np.float32(0.0371)), 20, box_warp)
        on_plane = mesh.vertices[:, axis] > -box_warp / 2 + 0.01
        free = np.delete(np.abs(mesh.vertices), axis, axis=1).max(axis=1) < box_warp / 2 - 1e-6
        cut = mesh.vertices[on_plane & free]
        assert len(cut) == 400 - 76
        np.testing.assert_allclose(cut[:, axis], 0.0371, atol=1e-6)


def test_vertices_lie_on_the_solid_within_a_tenth_of_a_voxel():
    """95% of the vertices are within a tenth of a voxel of the surface, half within a fiftieth."""
    mesh = mesh_of(solids.density, 64)
    error = np.abs(solids.signed_distance(mesh.vertices.astype(np.float64)))
    assert np.percentile(error, 95) < 0.1 / 63
    assert np.median(error) < 0.02 / 63


def test_meshes_are_closed_with_outward_faces():
    """The enclosed volume equals the ball's, and the winding of faces is consistent."""
    mesh = mesh_of(balls(((0.05, 0, 0), 0.3)), 64)
    solid = as_trimesh(mesh)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=2e-3)
    outward = mesh.vertices - np.array([0.05, 0, 0])
    cosines = np.einsum("vi,vi->v", vertex_normals(mesh), outward) / np.linalg.norm(outward, axis=-1)
    assert cosines.min() > 0.99


def test_normals_from_the_density_are_more_accurate():
    """Away from creases, with a density that falls over several samples, the error is a third of that from faces."""
    errors = {}
    for source in ("density", "faces"):
        mesh = mesh_of(solids.density, 96, vertex_normals=source)
        towards = mesh.vertices[:, None] - solids.CENTRES  # vertex ball 3
        distances = np.sort(np.linalg.norm(towards, axis=-1) - solids.RADII, axis=1)
        away = distances[:, 1] - distances[:, 0] > 3 / 95
        nearest = (np.linalg.norm(towards, axis=-1) - solids.RADII).argmin(axis=1)
        true = towards[np.arange(len(nearest)), nearest] / solids.RADII[nearest, None]
        errors[source] = normal_angular_error_deg(vertex_normals(mesh)[away, None], true[away, None], away[away, None])
    assert errors["density"].median < 0.1
    assert errors["density"].percentile_95 < 0.3
    assert errors["density"].mean < errors["faces"].mean / 3


def test_normals_at_a_cut_point_out_of_the_box():
    """On the closing surface the normal is that of the box face, to a degree; other normals are unaffected."""
    mesh = mesh_of(balls(((0, -0.4, 0), 0.3)), 64)
    lid = mesh.vertices[:, 1] < -0.5 - 1e-7
    np.testing.assert_allclose(mesh.normals[lid], np.broadcast_to([0, -1, 0], (lid.sum(), 3)), atol=0.02)
    outward = (mesh.vertices - np.array([0, -0.4, 0])) / 0.3
    assert (mesh.normals * outward).sum(axis=-1)[~lid].min() > 0.98


def test_normals_of_thin_parts_point_outwards():
    """On a plate and a rod thinner than the central differences, all normals agree with their faces."""
    for field in (
        lambda p: (10.0 - 400.0 * (np.abs(p[:, 0] - np.float32(0.003)) - 0.006)).astype(np.float32),
        lambda p: (10.0 - 400.0 * (np.hypot(p[:, 0] - 0.003, p[:, 1]) - 0.012)).astype(np.float32),
    ):
        mesh = mesh_of(field, 64, trim_border=0.1)
        inner = np.abs(mesh.vertices).max(axis=1) < 0.37
        by_faces = as_trimesh(mesh).vertex_normals
        assert inner.sum() > 100
        assert (mesh.normals * by_faces).sum(axis=-1)[inner].min() > 0.5


def test_a_solid_cut_by_the_box_is_closed():
    """A ball that intersects the box is closed at its face, to a thousandth of a voxel."""
    mesh = mesh_of(balls(((0, -0.4, 0), 0.3)), 40)
    assert as_trimesh(mesh).is_watertight
    assert mesh.vertices[:, 1].min() == pytest.approx(-0.5, abs=2e-3 / 39)


def test_noise_gives_a_closed_mesh():
    """Covers the ambiguous cases of marching cubes, including those at the faces of the box."""
    grid = np.random.default_rng(3).uniform(0, 20, (14, 14, 14)).astype(np.float32)
    solid = as_trimesh(extract_mesh(grid, 1.0, MeshParams(resolution=14, min_piece_share=0.0)))
    assert solid.is_watertight
    assert solid.is_winding_consistent


def test_trimming_empties_the_border_and_the_top():
    """A full box is trimmed by 4 of 40 samples at each face and by 10 at the top (+y)."""
    mesh = mesh_of(lambda p: np.full(len(p), 20, np.float32), 40, trim_border=0.1, trim_top=0.25)
    step = 1 / 39
    np.testing.assert_allclose(mesh.vertices.min(axis=0), -0.5 + 4 * step, atol=0.01 * step)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), 0.5 - np.array([4, 10, 4]) * step, atol=0.01 * step)


def test_small_pieces_are_removed():
    """Pieces below the share of the largest volume are removed; 0 keeps all."""
    field = balls(((-0.2, 0, 0), 0.2), ((0.25, 0, 0), 0.12), ((0, 0.4, 0), 0.03))
    for share, pieces in ((0.0, 3), (0.01, 2), (0.5, 1)):
        solid = as_trimesh(mesh_of(field, min_piece_share=share))
        assert solid.body_count == pieces
        assert solid.is_watertight


def test_statistics_of_pieces_and_cavities():
    """Volumes are in descending order, negative for a cavity; an empty grid has no pieces."""
    grid = density_grid(balls(((0, 0, 0), 0.4), ((0, 0, 0), -0.2)), 1.0, 64)
    hollow = mesh_statistics(grid, 1.0, MeshParams(resolution=64))
    assert hollow.pieces == 2
    np.testing.assert_allclose(hollow.piece_volumes, [4 / 3 * np.pi * 0.4**3, -4 / 3 * np.pi * 0.2**3], rtol=1e-2)
    assert hollow.watertight
    assert mesh_statistics(np.zeros((64, 64, 64), np.float32), 1.0, MeshParams(resolution=64)).pieces == 0


def test_vertex_normals_are_weighted_by_angle():
    """A 90 degree corner facing z and a 45 degree corner facing x give (1, 0, 2), independent of area."""
    for size in (0.1, 1.0, 7.0):
        vertices = np.array([[0, 0, 0], [size, 0, 0], [0, size, 0], [0, 1, 0], [0, 1, 1]], np.float32)
        mesh = TriangleMesh(vertices=vertices, faces=np.array([[0, 1, 2], [0, 3, 4]], np.int32))
        np.testing.assert_allclose(vertex_normals(mesh)[0], np.array([1, 0, 2]) / np.sqrt(5), atol=1e-6)


def test_an_empty_grid_is_refused():
    """The error reports the level and the largest density."""
    with pytest.raises(ValueError, match=r"mesh\.level: expected some density above 10\.0, got at most .*7"):
        mesh_of(lambda p: np.full(len(p), 7.0, np.float32), 8)


def test_a_grid_of_another_size_is_refused():
    """The size of the grid must match `mesh.resolution`."""
    with pytest.raises(ValueError, match=r"mesh\.resolution"):
        extract_mesh(np.zeros((8, 8, 8), np.float32), 1.0, MeshParams(resolution=16))
