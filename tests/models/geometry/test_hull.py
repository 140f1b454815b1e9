"""The visual hull: of a ball, whose surface is known, and of a head close to its true surface."""

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, project
from spinmeround.models.geometry.depth import mesh_depth
from spinmeround.models.geometry.hull import hull_grid, largest_gap_deg, signed_distance_px, visual_hull
from spinmeround.models.geometry.meshes import as_trimesh
from tests.models.reconstruction.balls import CENTRE, RADIUS, ball
from tests.support.tiny import TinyGenerator

GRID = ViewGrid(azimuths=12, elevations_deg=(-40.0, 0.0, 40.0))
ROUND = ViewGrid(azimuths=16, elevations_deg=(-25.0, 0.0, 25.0))


def test_the_hull_of_a_ball_is_nearly_the_ball() -> None:
    """A closed surface that is not inside the ball by more than half a pixel, nor far outside of it."""
    views = ball(64, GRID)
    mesh = visual_hull(views.cameras, views.mask, resolution=64)
    distance = np.linalg.norm(mesh.vertices - CENTRE, axis=-1) - RADIUS
    pixel = 2.7 / 4.2647 / 64
    assert as_trimesh(mesh).is_watertight
    assert distance.min() > -0.5 * pixel
    assert np.median(distance) < 0.3 * pixel
    assert distance.max() < 0.2 * RADIUS


def test_no_vertex_is_outside_of_a_mask() -> None:
    """Every vertex projects into, or onto the outline of, the head in all views."""
    views = ball(64, GRID)
    places, _ = project(views.cameras, visual_hull(views.cameras, views.mask, resolution=64).vertices)
    pixels = np.floor(places * 64).astype(int)
    inside = [views.mask[view][pixels[view, :, 1], pixels[view, :, 0]] > 0 for view in range(len(pixels))]
    assert np.mean(inside) > 0.98


def test_samples_are_signed_distances() -> None:
    """Near the surface of the ball the grid holds the distance to it, wherever the views are around it."""
    views = ball(64, ViewGrid(azimuths=24, elevations_deg=(0.0,)))
    grid = hull_grid(views.cameras, views.mask, box_warp=1.0, resolution=41)
    axis = np.linspace(-0.5, 0.5, 41)
    for place in (10, 12, 14):  # samples left of the ball's centre, at its height
        point = np.array([axis[place], axis[20], axis[21]])
        expected = RADIUS - np.linalg.norm((point - CENTRE)[[0, 2]])
        if abs(expected) < 0.08:
            assert grid[place, 20, 21] == pytest.approx(expected, abs=0.006)


def test_an_outline_lies_where_the_mask_is_half() -> None:
    """Along a row that crosses an edge at a fraction of a pixel, the distance is linear with slope one."""
    mask = np.zeros((9, 12), np.uint8)
    mask[:, :5], mask[:, 5] = 255, 64  # the edge is a quarter into column 5
    np.testing.assert_allclose(signed_distance_px(mask)[4, 3:8], [1.75, 0.75, -0.25, -1.25, -2.25], atol=0.002)


def test_masks_that_do_not_fit_are_refused() -> None:
    """An empty mask is named; masks of other places have no point in common."""
    views = ball(32)
    with pytest.raises(ValueError, match=r"view 3 is empty"):
        visual_hull(views.cameras, np.where(np.arange(20)[:, None, None] == 3, 0, views.mask).astype(np.uint8))
    corners = np.zeros_like(views.mask)
    corners[::2, :4, :4], corners[1::2, -4:, -4:] = 255, 255
    with pytest.raises(ValueError, match="masks and cameras do not fit"):
        visual_hull(views.cameras, corners, resolution=48)


def test_the_hull_of_a_head_has_its_depth() -> None:
    """At unseen cameras the median error in depth is below half a pixel, and it exceeds a pixel only where the surface
    turns away, in less than a tenth of the pixels."""
    generator, cameras, side = TinyGenerator(), ROUND.cameras(), 64
    head = generator.sample(3)
    hull = visual_hull(cameras, generator.render(head, cameras, side).mask)
    others = ViewGrid(azimuths=5, elevations_deg=(10.0,)).cameras()
    true, found = generator.render(head, others, side).depth, mesh_depth(hull, others, side)
    both = np.isfinite(true) & np.isfinite(found)
    assert both.sum() > 0.97 * np.isfinite(true).sum()
    pixel = 2.7 / 4.2647 / side
    error = np.abs(found - true)[both]
    assert np.median(error) < pixel / 2
    assert (error > pixel).mean() < 0.1


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
    assert largest_gap_deg(ROUND.cameras()) == pytest.approx(22.5)
    assert largest_gap_deg(ROUND.cameras()[[0]]) == pytest.approx(360.0)
