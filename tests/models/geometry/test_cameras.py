import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spinmeround.models.geometry.cameras import ViewGrid, orbit, pixel_rays, project

pytestmark = pytest.mark.fast

angles = st.tuples(st.floats(-360, 360), st.floats(-80, 80))


def test_the_frontal_camera():
    """At (0, 0) the camera is on +z, looks along -z, with +x to its right and -y down."""
    camera = orbit([0.0], [0.0], radius=2.7)
    expected = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]], np.float32)
    np.testing.assert_allclose(camera.cam2world[0], expected, atol=1e-7)


@settings(deadline=None)
@given(angles)
def test_orbit_cameras_look_at_the_origin(angle):
    """For any angles: a proper rotation, the documented position, and the origin at the image centre."""
    camera = orbit([angle[0]], [angle[1]], radius=2.7)
    rotation = camera.cam2world[0, :3, :3].astype(np.float64)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-6)
    az, el = np.radians(angle)
    position = 2.7 * np.array([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)])
    np.testing.assert_allclose(camera.cam2world[0, :3, 3], position, atol=1e-5)
    pixel, depth = project(camera, np.zeros((1, 3)))
    np.testing.assert_allclose(pixel[0, 0], [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(depth[0, 0], 2.7, atol=1e-5)


def test_the_view_index_is_elevation_major():
    """The default grid has 125 views, with the 25 azimuths of each elevation adjacent."""
    grid = ViewGrid()
    cameras = grid.cameras()
    assert grid.views == len(cameras) == 125
    np.testing.assert_allclose(cameras.azimuth_deg[:3], [0.0, 14.4, 28.8], atol=1e-5)
    np.testing.assert_array_equal(cameras.elevation_deg.reshape(5, 25)[:, 0], [-30, -15, 0, 15, 30])


@settings(deadline=None)
@given(angles, st.integers(1, 9), st.floats(0.5, 4.0))
def test_projection_inverts_pixel_rays(angle, resolution, distance):
    """A point anywhere along the ray of pixel (row, column) projects to that pixel's centre."""
    camera = orbit([angle[0]], [angle[1]])
    origins, directions = pixel_rays(camera, resolution)
    points = (origins + distance * directions)[0].reshape(-1, 3)
    pixels, depth = project(camera, points)
    centres = (np.arange(resolution) + 0.5) / resolution
    expected = np.stack(np.meshgrid(centres, centres, indexing="xy"), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(pixels[0], expected, atol=2e-5)
    assert (depth > 0).all()


def test_image_axes():
    """From the front, a point on +x is in the right half of the image and one on +y in the upper half."""
    pixels, _ = project(orbit([0.0], [0.0]), np.array([[0.2, 0.0, 0.0], [0.0, 0.2, 0.0]]))
    assert pixels[0, 0, 0] > 0.5
    assert pixels[0, 1, 1] < 0.5


def test_indexing_selects_the_same_rows_of_every_field():
    """For a list, a slice and a mask."""
    cameras = ViewGrid().cameras()
    for views in ([3, 77], slice(10, 14), np.arange(125) % 50 == 3):
        chosen = cameras[views]
        np.testing.assert_array_equal(chosen.cam2world, cameras.cam2world[views])
        np.testing.assert_array_equal(chosen.azimuth_deg, cameras.azimuth_deg[views])


@pytest.mark.parametrize(
    "field",
    [
        {"azimuths": 0},
        {"elevations_deg": ()},
        {"elevations_deg": (0, 120)},
        {"radius": 0.2},
        {"radius": np.inf},
        {"focal": np.nan},
        {"azimuth": 4},
    ],
    ids=str,
)
def test_invalid_grids_are_refused(field):
    """No views, cameras inside the box, invalid numbers and unknown fields raise an error that names the field."""
    with pytest.raises(ValidationError, match=next(iter(field))):
        ViewGrid(**field)
