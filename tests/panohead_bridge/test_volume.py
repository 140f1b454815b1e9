"""Heads as soft volumes: the integral along rays, its sharp limit, and the protocol."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.models.geometry.meshes import density_grid, extract_mesh
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.anatomy.primitives import sphere
from spinmeround.panohead_bridge.procedural.anatomy.regions import BACKGROUND
from spinmeround.panohead_bridge.procedural.passage import DistanceGrid, Passage, march, reach_of
from spinmeround.panohead_bridge.procedural.tracing import narrow_band, rays
from spinmeround.panohead_bridge.protocol import HeadGenerator, LabelledGenerator
from spinmeround.storage.records import Rendering

RADIUS, SOFTNESS, SIDE = 0.2, 0.004, 48


def volume(**options: object) -> ProceduralGenerator:
    return ProceduralGenerator(ProceduralOptions(defect_share=0.0, rendering="volume", **options))


@pytest.fixture(scope="module")
def pictures(identity, cameras) -> Rendering:
    return volume().render(identity, cameras, SIDE)


@pytest.fixture(scope="module")
def ball() -> tuple[Passage, np.ndarray, np.ndarray]:
    """What 64 x 64 rays of a frontal camera meet in a soft ball, their origins and their directions."""
    reach = reach_of(SOFTNESS)
    distance = narrow_band(lambda p: sphere(p, (0.0, 0.0, 0.0), RADIUS), 128, reach)
    _, origins, directions = next(rays(orbit([0.0], [0.0]), 64, ((0.0, 0.0),)))
    return march(DistanceGrid.of(distance, reach), origins, directions, SOFTNESS), origins, directions


def _integrated(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slow reference: transmittance and expected depth by quadrature of the exact density over 8000 samples."""
    depth = np.linspace(2.4, 3.0, 8001)
    transmittance, expected = [], []
    for origin, direction in zip(origins.astype(float), directions.astype(float), strict=True):
        points = origin + depth[:, None] * direction
        extinction = np.exp(-np.logaddexp(0.0, (np.linalg.norm(points, axis=1) - RADIUS) / SOFTNESS)) / SOFTNESS
        steps = 0.5 * (extinction[1:] + extinction[:-1]) * np.diff(depth) * np.linalg.norm(direction)
        remaining = np.exp(-np.concatenate([[0.0], np.cumsum(steps)]))
        weights = remaining[:-1] - remaining[1:]
        transmittance.append(remaining[-1])
        expected.append((weights * 0.5 * (depth[1:] + depth[:-1])).sum() / weights.sum())
    return np.array(transmittance), np.array(expected)


def test_weights_and_transmittance_sum_to_one(ball):
    """What a ray's segments absorb and what remains are all of its light; alpha is what they absorb."""
    passage, *_ = ball
    absorbed = np.exp(-passage.thickness) - np.exp(-passage.end_thickness)
    totals = np.bincount(passage.ray, absorbed, minlength=len(passage.transmittance))
    np.testing.assert_allclose(totals + passage.transmittance, 1.0, atol=1e-5)
    np.testing.assert_allclose(totals, passage.alpha, atol=1e-5)


def test_transmittance_and_depth_equal_a_fine_quadrature(ball):
    """Over a row across the ball and its soft edge, alpha and mean depth are those of 8000 samples of the density."""
    passage, origins, directions = ball
    row = np.arange(32 * 64, 33 * 64)
    transmittance, expected = _integrated(origins[row], directions[row])
    assert ((transmittance > 0.05) & (transmittance < 0.95)).sum() >= 2
    np.testing.assert_allclose(passage.transmittance[row], transmittance, atol=0.02)
    seen = row[transmittance < 0.9]
    found = np.mean(
        [passage.depth_at(seen, np.full(len(seen), s, np.float32)) for s in np.arange(0.05, 1, 0.1)], axis=0
    )
    np.testing.assert_allclose(found, expected[transmittance < 0.9], atol=6e-4)


def test_depth_head_on_is_that_of_the_surface(ball):
    """A ray to the ball's middle has half of its weights before the surface, half behind it."""
    passage, origins, directions = ball
    middle = np.array([32 * 64 + 32])
    speed = np.linalg.norm(directions[middle], axis=1)
    median = passage.depth_at(middle, np.array([0.5], np.float32)) * speed
    np.testing.assert_allclose(median, np.linalg.norm(origins[middle], axis=1) - RADIUS, atol=2e-4)


def test_sharp_volumes_are_the_surface(identity, cameras, rendering):
    """With almost no softness and no grain, pictures, masks and depth are those of the surface."""
    sharp = volume(volume_softness=1e-5, volume_grain=0.0).render(identity, cameras, SIDE)
    for name, least in (("rgb", 0.15), ("mask", 0.15)):
        change = np.abs(getattr(sharp, name).astype(int) - getattr(rendering, name))
        assert change.mean() < least
        assert (change > 8).mean() < 0.005
    both = np.isfinite(sharp.depth) & np.isfinite(rendering.depth)
    assert (np.isfinite(sharp.depth) != np.isfinite(rendering.depth)).sum() <= 12
    assert np.median(np.abs(sharp.depth - rendering.depth)[both]) < 2e-4


def test_volumes_are_softer_than_surfaces_and_in_the_same_place(pictures, rendering):
    """Masks have more partly covered pixels, about the same area, and depths lie within a few softnesses."""
    soft, hard = (((r.mask > 8) & (r.mask < 247)).sum() for r in (pictures, rendering))
    assert soft > 1.3 * hard
    assert 1.0 < pictures.mask.sum() / rendering.mask.sum() < 1.15
    both = np.isfinite(pictures.depth) & np.isfinite(rendering.depth)
    assert np.median(np.abs(pictures.depth - rendering.depth)[both]) < 0.004
    assert np.abs(pictures.rgb.astype(int) - rendering.rgb).mean() < 8


def test_background_is_white_and_depth_needs_half_of_the_light(pictures):
    """Empty pixels are white without depth; opaque ones have depth."""
    assert (pictures.rgb[pictures.mask == 0] == 255).all()
    assert np.isnan(pictures.depth[pictures.mask == 0]).all()
    assert np.isfinite(pictures.depth[pictures.mask == 255]).all()


def test_pictures_depend_on_head_camera_and_pixel_alone(identity, cameras, pictures):
    """A subset of cameras, two threads and a new generator give bit-identical pictures; noise differs by view."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = volume().render(identity, cameras[[3, 1]], SIDE)
    finally:
        torch.set_num_threads(threads)
    for field in ("rgb", "mask", "depth"):
        np.testing.assert_array_equal(getattr(again, field), getattr(pictures, field)[[3, 1]])


def test_noise_is_slight_and_differs_from_view_to_view(identity):
    """The same view from a camera a hair away differs by a few levels inside the head, and not outside of it."""
    first, second = (volume().render(identity, orbit([a], [0.0]), SIDE) for a in (20.0, 20.0001))
    change = np.abs(first.rgb.astype(int) - second.rgb)[first.mask == 255]
    assert 0.5 < change.mean() < 6.0
    assert (first.mask != second.mask).mean() < 0.01


def test_volumes_implement_the_protocol(identity, cameras, pictures):
    """A volume is a labelled generator; labels are where depth is; landmarks are those of the surface."""
    generator = volume()
    assert isinstance(generator, HeadGenerator)
    assert isinstance(generator, LabelledGenerator)
    labels = generator.render_labels(identity, cameras, SIDE)
    np.testing.assert_array_equal(labels != BACKGROUND, np.isfinite(pictures.depth))
    surface = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    np.testing.assert_array_equal(generator.landmarks(identity), surface.landmarks(identity))
    same = (labels == surface.render_labels(identity, cameras, SIDE))[labels != BACKGROUND]
    assert same.mean() > 0.85


@pytest.mark.parametrize("softness", [0.002, 0.006])
def test_the_mesh_of_the_density_is_the_surface(identity, softness):
    """Vertices at the usual level lie within a fifth of a voxel (95%) of the true surface."""
    generator, side = volume(volume_softness=softness), 96
    grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, side)
    mesh = extract_mesh(grid, generator.box_warp, MeshParams(resolution=side))
    distance = np.abs(generator.signed_distance(identity, mesh.vertices))
    assert np.quantile(distance, 0.95) < 0.2 / (side - 1)


def test_rays_that_miss_everything_meet_nothing(ball):
    """A ray beside the grid keeps all of its light."""
    passage, *_ = ball
    assert passage.transmittance[0] == 1.0
    assert not (passage.ray == 0).any()


def test_a_view_without_the_head_is_white(identity):
    """A camera that looks away gives white pictures, empty masks and no depth."""
    camera = orbit([0.0], [0.0])
    away = camera.cam2world.copy()
    away[:, :3, :3] = away[:, :3, :3] @ np.diag([-1.0, 1.0, -1.0]).astype(np.float32)
    camera = Cameras(
        cam2world=away,
        intrinsics=camera.intrinsics,
        azimuth_deg=camera.azimuth_deg,
        elevation_deg=camera.elevation_deg,
    )
    seen = volume().render(identity, camera, 8)
    assert (seen.rgb == 255).all()
    assert not seen.mask.any()
    assert np.isnan(seen.depth).all()


def test_options_of_volumes_are_refused_for_surfaces():
    """Softness without rendering = "volume" is an error; the fingerprint of surfaces ignores both options."""
    with pytest.raises(
        ValidationError, match="volume_softness: expected with rendering = 'volume' only, got 'surface'"
    ):
        ProceduralOptions(volume_softness=0.001)
    prints = {ProceduralOptions(**o).fingerprint() for o in ({}, {"rendering": "volume"})}
    prints.add(ProceduralOptions(rendering="volume", volume_softness=0.004).fingerprint())
    assert len(prints) == 3
