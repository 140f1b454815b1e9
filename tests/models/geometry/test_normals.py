from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spinmeround.models.geometry.cameras import ViewGrid, orbit
from spinmeround.models.geometry.meshes import density_grid, extract_mesh, vertex_normals
from spinmeround.models.geometry.normals import (
    NormalRenderer,
    decode_normals,
    encode_normals,
    fill_normals_under_mask,
    make_normal_renderer,
    world_normals_to_camera,
)
from spinmeround.models.geometry.params import MeshParams
from spinmeround.models.geometry.renderers import pytorch3d_problem, renderer_fingerprint
from spinmeround.models.metrics import normal_angular_error_deg
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.storage.records import NormalMaps, TriangleMesh
from tests.models.geometry import solids

CAMERAS = orbit([0.0, 40.0, 90.0, 180.0, 250.0, 300.0], [0.0, 20.0, 0.0, -15.0, 30.0, -30.0])

OTHER_AXES = [
    (list(order), np.array(signs, np.float32))
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    if (order, signs) != ((0, 1, 2), (1, 1, 1))
]
"""The 47 incorrect orders and signs of three axes."""


def _available(name):
    why = pytorch3d_problem(gpu=False) if name == "pytorch3d" else None
    return pytest.param(name, marks=[pytest.mark.skip(reason=why)] if why else [])


RENDERERS = [_available("embree"), _available("pytorch3d")]


@pytest.fixture(scope="module")
def solid():
    return extract_mesh(density_grid(solids.density, 1.0, 96), 1.0, MeshParams(resolution=96))


def _matches(maps, truth):
    """Whether normal maps equal the exact ones, within the accuracy of a mesh from 96 samples per axis."""
    normals, hit = truth
    if (maps.hit == hit).mean() < 0.997:
        return False
    error = normal_angular_error_deg(maps.normals, normals, maps.hit & hit)
    return error.median < 0.5 and error.percentile_95 < 3.0


@pytest.fixture(scope="module")
def truth():
    return solids.normal_maps(CAMERAS, 96)


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("vertex_normals", ["density", "faces"])
def test_normal_maps_of_an_asymmetric_solid_are_correct(name, vertex_normals, truth):
    """Density, grid, mesh and renderer together give the exact normal maps of a solid without any symmetry.

    Any mirrored or swapped axis would move a bump.
    """
    params = MeshParams(resolution=96, vertex_normals=vertex_normals)
    mesh = extract_mesh(density_grid(solids.density, 1.0, 96), 1.0, params)
    assert _matches(make_normal_renderer(name).render(mesh, CAMERAS, 96), truth)


def _of_the_grid(change):
    grid = np.ascontiguousarray(change(density_grid(solids.density, 1.0, 96)))
    return _rendered(extract_mesh(grid, 1.0, MeshParams(resolution=96)))


def _of_the_mesh(change):
    mesh = extract_mesh(density_grid(solids.density, 1.0, 96), 1.0, MeshParams(resolution=96))
    return _rendered(replace(mesh, **change(mesh)))


def _rendered(mesh, cameras=CAMERAS):
    return make_normal_renderer("embree").render(mesh, cameras, 96)


def _of_the_cameras(change):
    mesh = extract_mesh(density_grid(solids.density, 1.0, 96), 1.0, MeshParams(resolution=96))
    return _rendered(mesh, replace(CAMERAS, cam2world=change(CAMERAS.cam2world).astype(np.float32)))


ERRORS = {
    "grid indexed z, y, x": lambda: _of_the_grid(lambda grid: grid.transpose(2, 1, 0)),
    "grid indexed y, x, z": lambda: _of_the_grid(lambda grid: grid.transpose(1, 0, 2)),
    "grid indexed x, z, y": lambda: _of_the_grid(lambda grid: grid.transpose(0, 2, 1)),
    "grid indexed y, z, x": lambda: _of_the_grid(lambda grid: grid.transpose(1, 2, 0)),
    "grid indexed z, x, y": lambda: _of_the_grid(lambda grid: grid.transpose(2, 0, 1)),
    "grid mirrored in x": lambda: _of_the_grid(lambda grid: grid[::-1]),
    "grid mirrored in y": lambda: _of_the_grid(lambda grid: grid[:, ::-1]),
    "grid mirrored in z": lambda: _of_the_grid(lambda grid: grid[..., ::-1]),
    "grid rotated by 180 degrees about y": lambda: _of_the_grid(lambda grid: grid[::-1, :, ::-1]),
    "shift of half a voxel": lambda: _of_the_mesh(lambda mesh: {"vertices": mesh.vertices + np.float32(0.5 / 95)}),
    "samples at cell centres": lambda: _of_the_mesh(lambda mesh: {"vertices": mesh.vertices * np.float32(95 / 96)}),
    "faces inside out": lambda: _of_the_mesh(lambda mesh: {"faces": mesh.faces[:, ::-1].copy(), "normals": None}),
    "vertices' x and z swapped": lambda: _of_the_mesh(lambda mesh: {"vertices": mesh.vertices[:, ::-1].copy()}),
    "camera's x to the left": lambda: _of_the_cameras(lambda pose: pose * np.array([-1, 1, 1, 1])),
    "camera's y upwards": lambda: _of_the_cameras(lambda pose: pose * np.array([1, -1, 1, 1])),
    "rotation transposed": lambda: _of_the_cameras(_transposed),
}


def _transposed(cam2world):
    transposed = cam2world.copy()
    transposed[:, :3, :3] = cam2world[:, :3, :3].transpose(0, 2, 1)
    return transposed


@pytest.mark.parametrize("error", ERRORS)
def test_axis_errors_are_detected(error, truth):
    """A swapped or mirrored axis, a shift of half a voxel and inverted faces each change the maps."""
    assert not _matches(ERRORS[error](), truth)


def test_pixel_and_normal_axis_errors_are_detected(solid, truth):
    """Swapped or mirrored rows and columns, and every incorrect order or sign of the normals' axes."""
    maps = _rendered(solid)
    assert _matches(maps, truth)
    for axes in ((0, 2, 1), (0, 1, 2)):
        for rows, columns in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
            if (axes, rows, columns) != ((0, 1, 2), 1, 1):
                hit = maps.hit.transpose(axes)[:, ::rows, ::columns]
                normals = maps.normals.transpose(*axes, 3)[:, ::rows, ::columns]
                assert not _matches(NormalMaps(normals=normals, hit=hit), truth)
    for order, signs in OTHER_AXES:
        assert not _matches(NormalMaps(normals=maps.normals[..., order] * signs, hit=maps.hit), truth)


def test_the_solid_has_no_symmetry():
    """None of the 47 axis permutations and reflections maps the solid to itself, as the tests above require."""
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (20_000, 3))
    inside = solids.signed_distance(points) < 0
    assert len(OTHER_AXES) == 47
    for order, signs in OTHER_AXES:
        turned = solids.signed_distance(points[:, order] * signs) < 0
        assert (turned != inside).sum() > 0.1 * inside.sum()


@pytest.mark.parametrize("name", RENDERERS)
def test_normals_are_interpolated_in_perspective(name):
    """On a tilted triangle with three different vertex normals, each pixel has the normal of its 3D point.

    Screen-space linear interpolation exceeds the tolerance by far.
    """
    vertices = np.array([[-0.4, -0.3, 0.9], [0.4, -0.3, -0.9], [0.0, 0.45, -0.3]], np.float32)
    folded = np.array([[-0.6, 0.0, 0.5], [0.5, 0.1, -1.3], [0.5, 0.6, -0.2]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 0, 4], [2, 1, 5]], np.int32)
    mesh = TriangleMesh(vertices=np.concatenate([vertices, folded]), faces=faces)
    camera, side = orbit([10.0], [5.0]), 48
    maps = make_normal_renderer(name).render(mesh, camera, side)
    at_vertices = vertex_normals(mesh)
    rotation, position = camera.cam2world[0, :3, :3].astype(np.float64), camera.cam2world[0, :3, 3]
    tested = 0
    for row, column in np.argwhere(maps.hit[0]):
        ray = rotation @ [(column + 0.5) / side / 4.2647 - 0.5 / 4.2647, (row + 0.5) / side / 4.2647 - 0.5 / 4.2647, 1]
        hits = []
        for corners in faces:
            a, b, c = mesh.vertices[corners].astype(np.float64)
            distance, u, v = np.linalg.solve(np.stack([-ray, b - a, c - a], axis=-1), position - a)
            hits.append((distance if min(u, v, 1 - u - v) >= 0 else np.inf, u, v))
        face = int(np.argmin([hit[0] for hit in hits]))
        distance, u, v = hits[face]
        if face == 0 and np.isfinite(distance):
            a, b, c = at_vertices[faces[0]]
            expected = (1 - u - v) * a + u * b + v * c
            np.testing.assert_allclose(maps.normals[0, row, column], expected / np.linalg.norm(expected), atol=1e-4)
            tested += 1
    assert tested > 50


def test_views_do_not_depend_on_the_batch_or_the_threads(solid):
    """A view is bit-identical alone and in a batch, with one thread and with three."""
    together = make_normal_renderer("embree", threads=3).render(solid, CAMERAS, 40)
    for view in range(len(CAMERAS)):
        alone = make_normal_renderer("embree", threads=1).render(solid, CAMERAS[[view]], 40)
        np.testing.assert_array_equal(alone.normals[0], together.normals[view])
        np.testing.assert_array_equal(alone.hit[0], together.hit[view])


def test_normals_are_unit_vectors_exactly_at_hits(solid):
    """Length 1 at hits, 0 elsewhere; normals point against the viewing direction."""
    maps = make_normal_renderer("embree").render(solid, CAMERAS, 40)
    length = np.linalg.norm(maps.normals, axis=-1)
    np.testing.assert_allclose(length, maps.hit, atol=1e-6)
    in_camera = world_normals_to_camera(maps.normals, CAMERAS)
    np.testing.assert_allclose(np.linalg.norm(in_camera, axis=-1), length, atol=1e-5)
    assert np.median(in_camera[maps.hit][:, 2]) < -0.5


def test_a_normal_towards_the_camera_is_minus_z():
    """The reversed viewing direction is (0, 0, -1) in the axes of every camera."""
    cameras = ViewGrid(azimuths=4, elevations_deg=(-30.0, 20.0)).cameras()
    towards = np.broadcast_to(-cameras.cam2world[:, None, None, :3, 2], (8, 2, 3, 3))
    np.testing.assert_allclose(
        world_normals_to_camera(towards, cameras), np.broadcast_to([0, 0, -1], (8, 2, 3, 3)), atol=1e-6
    )


def test_a_mesh_outside_the_view_gives_empty_maps(solid):
    """Without hits, the maps are zero."""
    mesh = TriangleMesh(vertices=solid.vertices + np.float32(50), faces=solid.faces)
    maps = make_normal_renderer("embree").render(mesh, CAMERAS[[0]], 8)
    assert not maps.hit.any()
    assert not maps.normals.any()


def test_auto_selects_an_available_renderer(solid):
    """ "auto" does not require PyTorch3D, and artifact keys name the renderer that it selects."""
    renderer = make_normal_renderer()
    assert isinstance(renderer, NormalRenderer)
    assert renderer.fingerprint == renderer_fingerprint()
    assert renderer.render(solid, CAMERAS[[0]], 16).hit.any()


def test_an_unknown_renderer_is_refused():
    """The error lists the allowed names."""
    with pytest.raises(ValueError, match="auto, embree, pytorch3d"):
        make_normal_renderer("blender")


@pytest.mark.skipif(pytorch3d_problem(gpu=False) is None, reason="PyTorch3D is installed here")
def test_missing_pytorch3d_is_explained():
    """The error gives build instructions and an alternative."""
    with pytest.raises(ValueError, match=r"PyTorch3D is not installed\. .*pip install.*Embree"):
        make_normal_renderer("pytorch3d")


@pytest.mark.parametrize("name", RENDERERS)
def test_no_ray_passes_between_two_faces(name):
    """A pixel centre exactly on the shared edge of two faces, here a square's diagonal, hits one of them."""
    corners = np.array([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0.3, 0.3, 0], [-0.3, 0.3, 0]], np.float32)
    square = TriangleMesh(vertices=corners, faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32), normals=None)
    hit = make_normal_renderer(name).render(square, orbit([0.0], [0.0]), 64).hit[0]
    inside = hit.any(axis=0)
    assert 20 < inside.sum() < 64
    assert hit[np.ix_(inside, inside)].all()


@pytest.mark.skipif(pytorch3d_problem(gpu=False) is not None, reason="PyTorch3D is not installed here")
def test_both_renderers_agree(solid):
    """Masks agree on 99.5% of the pixels, normals to half a degree on average."""
    ours, theirs = (make_normal_renderer(name).render(solid, CAMERAS, 64) for name in ("embree", "pytorch3d"))
    assert (ours.hit == theirs.hit).mean() > 0.995
    assert normal_angular_error_deg(theirs.normals, ours.normals, ours.hit & theirs.hit).mean < 0.5


@pytest.mark.skipif(pytorch3d_problem(gpu=False) is not None, reason="PyTorch3D is not installed here")
def test_both_renderers_agree_on_a_head():
    """On a head with hair and ears, from 128 samples per axis, at 128 px."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    head, params = generator.sample(7), MeshParams(resolution=128)
    grid = density_grid(lambda points: generator.density(head, points), generator.box_warp, params.resolution)
    mesh = extract_mesh(grid, generator.box_warp, params)
    ours, theirs = (make_normal_renderer(name).render(mesh, CAMERAS, 128) for name in ("embree", "pytorch3d"))
    assert (ours.hit == theirs.hit).mean() > 0.995
    assert normal_angular_error_deg(theirs.normals, ours.normals, ours.hit & theirs.hit).mean < 0.5


def test_the_outline_copies_the_nearest_normal():
    """Normals under the mask equal those of a brute-force nearest-hit search; outside they are zero."""
    rng = np.random.default_rng(1)
    hit = rng.random((2, 9, 9)) < 0.15
    normals = np.where(hit[..., None], rng.normal(size=(2, 9, 9, 3)), 0).astype(np.float32)
    mask = (rng.random((2, 9, 9)) < 0.6).astype(np.uint8) * 7
    filled = fill_normals_under_mask(normals, hit, mask)
    assert not filled[mask == 0].any()
    for view, row, column in np.argwhere(mask > 0):
        where = np.argwhere(hit[view])
        distance = np.linalg.norm(where - [row, column], axis=-1)
        nearest = where[distance == distance.min()]
        assert any((normals[view, r, c] == filled[view, row, column]).all() for r, c in nearest)


def test_a_mask_without_hits_is_refused():
    """The error names the view with a mask but no hits; a view without a mask stays empty."""
    normals, hit = np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 4, 4), bool)
    mask = np.zeros((2, 4, 4), np.uint8)
    assert not fill_normals_under_mask(normals, hit, mask).any()
    mask[1, 2, 2] = 255
    with pytest.raises(ValueError, match="view 1"):
        fill_normals_under_mask(normals, hit, mask)


def test_encoding_of_known_normals():
    """Axes, a diagonal and background: round((n + 1) / 2 * 255), 128 outside the mask."""
    normals = np.array([[[1, 0, 0], [0, -1, 0], [0.6, 0, 0.8], [0, 0, 1]]], np.float32)
    encoded = encode_normals(normals, np.array([[255, 1, 255, 0]], np.uint8))
    assert encoded.tolist() == [[[255, 128, 128], [128, 0, 128], [204, 128, 230], [128, 128, 128]]]


@settings(deadline=None)
@given(arrays(np.float64, (2, 3, 3), elements=st.floats(-1, 1)))
def test_decoding_inverts_encoding(vectors):
    """Any unit vector decodes to a unit vector within 0.5 degrees."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    normals = np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), [0.0, 0.0, 1.0])
    mask = np.full((2, 3), 255, np.uint8)
    decoded = decode_normals(encode_normals(normals, mask), mask)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=-1), 1.0, atol=1e-5)
    cosines = np.clip((decoded * normals).sum(-1), -1, 1)
    assert np.degrees(np.arccos(cosines)).max() < 0.5
