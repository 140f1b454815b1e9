"""The visual hull: of a ball known in closed form, of a head close to its true surface."""

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, pixel_rays
from spinmeround.models.geometry.depth import mesh_depth
from spinmeround.models.geometry.hull import largest_gap_deg, visual_hull
from spinmeround.storage.records import TriangleMesh
from tests.support.tiny import TinyGenerator

GRID = ViewGrid(azimuths=16, elevations_deg=(-25.0, 0.0, 25.0))


def ball_masks(cameras: Cameras, side: int, centre: np.ndarray, radius: float) -> np.ndarray:
    """Outlines of a ball: the rays that pass its centre at less than its radius."""
    origins, directions = pixel_rays(cameras, side)
    offset = centre - origins
    along = (offset * directions).sum(-1, keepdims=True)
    distance = np.linalg.norm(offset - along * directions, axis=-1)
    return np.where(distance < radius, 255, 0).astype(np.uint8)


def test_the_hull_of_a_ball_is_round() -> None:
    """From 48 sides no vertex is inside the ball by more than half the diagonal of a pixel, which its hard outlines are
    off, and most are not outside by more than one."""
    centre, radius, side = np.array([0.03, -0.02, 0.05]), 0.17, 96
    cameras = GRID.cameras()
    hull = visual_hull(ball_masks(cameras, side, centre, radius), cameras)
    distance = np.linalg.norm(hull.vertices - centre, axis=1) - radius
    pixel = 2.7 / 4.2647 / side
    assert distance.min() > -pixel / 2**0.5 - 1e-3  # and a tenth of a sample of the grid
    assert np.median(distance) < pixel
    assert np.abs(hull.vertices.mean(axis=0) - centre).max() < pixel


def test_the_hull_of_a_head_has_its_depth() -> None:
    """At unseen cameras the median error in depth is below half a pixel, and it exceeds a pixel only where the surface
    turns away, in less than a tenth of the pixels."""
    generator, cameras, side = TinyGenerator(), GRID.cameras(), 64
    head = generator.sample(3)
    hull = visual_hull(generator.render(head, cameras, side).mask, cameras)
    others = ViewGrid(azimuths=5, elevations_deg=(10.0,)).cameras()
    true, found = generator.render(head, others, side).depth, mesh_depth(hull, others, side)
    both = np.isfinite(true) & np.isfinite(found)
    assert both.sum() > 0.97 * np.isfinite(true).sum()
    pixel = 2.7 / 4.2647 / side
    error = np.abs(found - true)[both]
    assert np.median(error) < pixel / 2
    assert (error > pixel).mean() < 0.1


def test_depth_is_along_the_axis_of_the_camera() -> None:
    """A square at z = 0.1 that faces the frontal camera is 2.6 away at every pixel that it covers, not only in the
    middle."""
    corners = np.array([[-0.2, -0.2, 0.1], [0.2, -0.2, 0.1], [0.2, 0.2, 0.1], [-0.2, 0.2, 0.1]], np.float32)
    square = TriangleMesh(vertices=corners, faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    depth = mesh_depth(square, ViewGrid(azimuths=1, elevations_deg=(0.0,)).cameras(), 32)[0]
    hit = np.isfinite(depth)
    assert 0.3 < hit.mean() < 0.6
    np.testing.assert_allclose(depth[hit], 2.6, atol=1e-5)


def test_masks_of_no_solid_are_refused() -> None:
    """Outlines that no point is inside of."""
    cameras = GRID.cameras()
    masks = ball_masks(cameras, 32, np.zeros(3), 0.1)
    masks[0] = 0
    with pytest.raises(ValueError, match="found no point that is inside all of them"):
        visual_hull(masks, cameras)


def test_gaps_between_views_go_round() -> None:
    """Of views at -80, 0 and 80 degrees the gap is behind the head."""
    azimuth = np.array([280.0, 0.0, 80.0], np.float32)
    cameras = ViewGrid(azimuths=3, elevations_deg=(0.0,)).cameras()
    turned = Cameras(
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth_deg=azimuth,
        elevation_deg=cameras.elevation_deg,
    )
    assert largest_gap_deg(turned) == pytest.approx(200.0)
    assert largest_gap_deg(GRID.cameras()) == pytest.approx(22.5)
    assert largest_gap_deg(GRID.cameras()[[0]]) == pytest.approx(360.0)
