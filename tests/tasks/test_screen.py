"""Screening sees what it claims to see: each score on shapes whose value is known."""

import numpy as np
import pytest

from models.geometry.meshes import MeshParams, mesh_statistics
from tasks.screen import (
    Evidence,
    ScreenParams,
    cavity_volume,
    clipped_volume,
    depth_to_width,
    screen,
    silhouette_holes,
    silhouette_spikes,
    stray_volume,
)

SIDE = 64


def ellipsoid(half_axes=(0.2, 0.25, 0.24), centre=(0.0, 0.0, 0.0)):
    """Occupancy of an ellipsoid on the coarse grid of the unit cube, [x, y, z]."""
    axis = np.linspace(-0.5, 0.5, SIDE)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return (((grid - np.asarray(centre)) / np.asarray(half_axes)) ** 2).sum(axis=-1) < 1


def evidence(inside):
    """The evidence of a solid, its silhouettes projected along z (azimuths 0, 180) and x (90, 270)."""
    front = np.rot90(inside.any(axis=2))
    side = np.rot90(inside.any(axis=0).T)
    mask = np.stack([front, side, front, side]).astype(np.uint8) * 255
    mesh = mesh_statistics(np.where(inside, 20, 0).astype(np.float32), 1.0, MeshParams(resolution=SIDE))
    return Evidence(mesh=mesh, inside=inside, mask=mask, azimuth_deg=np.array([0, 90, 180, 270], np.float32))


def test_plain_head_is_kept():
    """An ellipsoid of a head's proportions passes all limits, with no stray or clipped volume at all."""
    verdict = screen(evidence(ellipsoid()), ScreenParams())
    assert verdict.keep
    assert verdict.reasons == ()
    assert verdict.scores["stray_volume"] == 0.0
    assert verdict.scores["clipped_volume"] == 0.0


def test_stray_volume_is_the_share_of_the_smaller_piece():
    """A second, separate ellipsoid counts by its share of all voxels, to the accuracy of their meshes."""
    head, piece = ellipsoid(), ellipsoid((0.05, 0.05, 0.05), (0.4, 0.4, 0.4))
    expected = piece.sum() / (head.sum() + piece.sum())
    assert stray_volume(evidence(head | piece)) == pytest.approx(expected, rel=0.05)


def test_cavity_volume_is_the_share_of_the_hollow():
    """An ellipsoid hollow in an ellipsoid of twice its size has an eighth of its volume."""
    hollow = ellipsoid() & ~ellipsoid((0.1, 0.125, 0.12))
    assert cavity_volume(evidence(ellipsoid())) == 0.0
    assert cavity_volume(evidence(hollow)) == pytest.approx(1 / 8, rel=0.1)
    assert screen(evidence(hollow), ScreenParams()).reasons == ("cavity_volume",)


def test_empty_volume_is_dropped_for_it():
    """Where nothing is inside, all volume counts as stray."""
    assert screen(evidence(np.zeros((SIDE, SIDE, SIDE), bool)), ScreenParams()).reasons[0] == "stray_volume"


def test_clipped_volume_is_the_share_of_the_faces():
    """A slab at the top is clipped on that face wholly and on four by its thickness; one at the bottom on those."""
    top, bottom = np.zeros((2, SIDE, SIDE, SIDE), bool)
    top[:, -4:] = True
    bottom[:, :4] = True
    assert clipped_volume(evidence(top)) == pytest.approx((1 + 4 * 4 / SIDE) / 5)
    assert clipped_volume(evidence(bottom)) == pytest.approx(4 * 4 / SIDE / 5)


def test_hole_through_the_head_shows_in_the_silhouette():
    """A square bore along z is a hole of its own area in the frontal silhouette."""
    inside = ellipsoid()
    whole = inside.any(axis=2).sum()
    inside[28:36, 28:36] = False
    assert silhouette_holes(evidence(inside)) == pytest.approx(64 / whole)


def test_thin_spike_is_what_opening_removes():
    """A bar one pixel wide beyond the head counts by its pixels, and a head without one has next to none."""
    inside = ellipsoid()
    plain = silhouette_spikes(evidence(inside))
    inside[32, 50:62, 32] = True
    assert plain < 0.02
    assert silhouette_spikes(evidence(inside)) > plain + 8 / inside.any(axis=2).sum()


@pytest.mark.parametrize(("depth", "reason"), [(0.08, True), (0.24, False), (0.45, True)], ids=["flat", "head", "deep"])
def test_depth_to_width_limits_both_ways(depth, reason):
    """The ratio is that of the half axes, and both too flat and too deep heads are dropped."""
    given = evidence(ellipsoid((0.2, 0.25, depth)))
    assert depth_to_width(given) == pytest.approx(depth / 0.2, rel=0.1)
    assert ("depth_to_width" in screen(given, ScreenParams()).reasons) is reason


def test_a_head_can_be_dropped_for_several_reasons():
    """All limits that are passed are named, in the order of the scores."""
    inside = ellipsoid((0.2, 0.25, 0.08)) | ellipsoid((0.05, 0.05, 0.05), (0.4, 0.4, 0.4))
    assert screen(evidence(inside), ScreenParams()).reasons[:1] == ("stray_volume",)
    assert "depth_to_width" in screen(evidence(inside), ScreenParams()).reasons
