"""Points from rays: exact ones, with outliers, and those that can't be told."""

from itertools import combinations

import numpy as np

from spinmeround.models.geometry.cameras import orbit
from spinmeround.models.geometry.triangulation import triangulate

POINTS = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 3))
ORIGINS = orbit(np.linspace(-80, 80, 7), np.linspace(-20, 25, 7)).cam2world[:, :3, 3].astype(np.float64)
TOLERANCE = np.full(7, np.radians(0.5))


def rays() -> np.ndarray:
    towards = POINTS[None] - ORIGINS[:, None]
    return towards / np.linalg.norm(towards, axis=-1, keepdims=True)


def test_exact_rays_meet_in_their_points() -> None:
    """A round trip, in any unit: millimetres give the same points, to rounding."""
    for unit in (1.0, 260.0):
        found, agreeing = triangulate(ORIGINS * unit, rays(), TOLERANCE)
        np.testing.assert_allclose(found, POINTS * unit, atol=1e-9 * unit)
        assert agreeing.all()


def test_outliers_and_missing_places_change_nothing() -> None:
    """Three of seven views are wrong by degrees, in directions of their own, and one lacks a point."""
    directions = rays()
    random = np.random.default_rng(1)
    for view in (0, 2, 5):
        directions[view] += random.normal(0, 0.1, (5, 3))
        directions[view] /= np.linalg.norm(directions[view], axis=-1, keepdims=True)
    directions[6, 3] = np.nan
    found, agreeing = triangulate(ORIGINS, directions, TOLERANCE)
    np.testing.assert_allclose(found, POINTS, atol=1e-9)
    assert agreeing[[1, 3, 4]].all()
    assert not agreeing[6, 3]


def test_noise_averages_out() -> None:
    """With a noise of a tenth of a degree the points are closer than any two views alone would have them on average."""
    noisy = rays() + np.random.default_rng(2).normal(0, np.radians(0.1), (7, 5, 3))
    noisy /= np.linalg.norm(noisy, axis=-1, keepdims=True)
    pairs = [triangulate(ORIGINS[list(two)], noisy[list(two)], TOLERANCE[:2])[0] for two in combinations(range(7), 2)]
    found, _ = triangulate(ORIGINS, noisy, TOLERANCE)
    of_pairs = np.nanmean([np.linalg.norm(pair - POINTS, axis=1) for pair in pairs])
    assert np.linalg.norm(found - POINTS, axis=1).mean() < 0.8 * of_pairs


def test_a_point_that_one_view_sees_is_unknown() -> None:
    """As is one of parallel rays: neither has a depth."""
    directions = rays()
    directions[1:, 0] = np.nan
    found, agreeing = triangulate(ORIGINS, directions, TOLERANCE)
    assert np.isnan(found[0]).all()
    assert not agreeing[:, 0].any()
    along = np.tile([[[0.0, 0.0, -1.0]]], (2, 1, 1))
    assert np.isnan(triangulate(np.array([[0.0, 0, 2.7], [0.1, 0, 2.7]]), along, TOLERANCE[:2])[0]).all()
