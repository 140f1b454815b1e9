import mcubes
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.panohead_bridge.procedural.anatomy import head as head_module
from spinmeround.panohead_bridge.procedural.anatomy.head import PARTS, Head
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, ellipsoid, smooth_union, sphere
from spinmeround.panohead_bridge.procedural.generator import density_of_distance
from spinmeround.panohead_bridge.procedural.tracing import gradient
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode
from spinmeround.storage.records import Identity

ANY_LATENT = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).standard_normal(LATENT_SIZE))


def _near_surface(generator: ProceduralGenerator, identity: Identity, width: float, count: int = 4000) -> np.ndarray:
    points = np.random.default_rng(5).uniform(-0.3, 0.3, (60000, 3)).astype(np.float32)
    return points[np.abs(generator.signed_distance(identity, points)) < width][:count]


def test_ellipsoid_with_equal_radii_is_a_sphere():
    """The ellipsoid's distance bound is exact for equal radii."""
    p = Points(*torch.randn(3, 100, generator=torch.manual_seed(0)))
    torch.testing.assert_close(
        ellipsoid(p, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5)), sphere(p, (0.1, 0.2, 0.3), 0.5), atol=1e-5, rtol=1e-5
    )


def test_smooth_union_is_sharp_away_from_the_seam():
    """It equals the minimum away from the seam, and lies a quarter of the width below it at the seam."""
    a, b = torch.tensor([0.0, 1.0, 0.3]), torch.tensor([0.5, 0.2, 0.3])
    torch.testing.assert_close(smooth_union(a, b, 0.1), torch.tensor([0.0, 0.2, 0.275]))


def test_normals_equal_finite_differences(generator, identity):
    """Automatic differentiation agrees with central differences near the surface."""
    points = _near_surface(generator, identity, 0.02, 500)
    step = np.float32(5e-4)
    shifts = np.eye(3, dtype=np.float32) * step
    differences = [
        generator.signed_distance(identity, points + s) - generator.signed_distance(identity, points - s)
        for s in shifts
    ]
    slope = np.stack(differences, axis=-1) / (2 * step)
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
    cosine = (slope * generator.surface_normal(identity, points)).sum(axis=-1)
    assert np.degrees(np.arccos(np.clip(np.median(cosine), -1, 1))) < 0.3
    assert np.quantile(cosine, 0.05) > 0.97


def test_distance_is_nearly_euclidean_at_the_surface(generator, identity):
    """The gradient's norm is near one at the surface, so density is linear in Euclidean distance."""
    slopes = np.linalg.norm(
        gradient(generator._heads.scene(identity).distance, _near_surface(generator, identity, 0.004)), axis=1
    )
    assert 0.85 < np.median(slopes) < 1.1
    assert np.quantile(slopes, 0.99) < 1.7


def test_density_is_ten_on_the_surface():
    """Density falls linearly through 10 at distance zero, clamped to 0 and 20."""
    distance = np.array([-1.0, -0.05, -0.025, 0.0, 0.025, 0.05, 1.0], np.float32)
    np.testing.assert_allclose(density_of_distance(distance), [20, 20, 15, 10, 5, 0, 0], atol=1e-5)


def test_marching_cubes_finds_the_surface(generator, identity):
    """The mesh at level 10 is watertight and lies on the surface, and its normals follow the gradient."""
    axis = np.linspace(-0.5, 0.5, 96, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    density = generator.density(identity, grid).reshape(96, 96, 96)
    vertices, faces = mcubes.marching_cubes(density, 10.0)
    vertices = (vertices / 95.0 - 0.5).astype(np.float32)
    mesh = trimesh.Trimesh(vertices, faces[:, ::-1], process=False)
    assert mesh.is_watertight
    assert np.quantile(np.abs(generator.signed_distance(identity, vertices)), 0.95) * 95 < 0.25
    cosine = np.abs((mesh.vertex_normals * generator.surface_normal(identity, vertices)).sum(axis=1))
    assert np.degrees(np.arccos(np.clip(np.median(cosine), -1, 1))) < 2.5


@given(ANY_LATENT)
@settings(max_examples=8, deadline=None)
def test_any_head_stays_inside_the_cube(lattice, latent):
    """Every head contains the origin and stays within 0.49, and within a radius of 0.30 above the neck."""
    head = Head.of(decode(latent))
    with torch.inference_mode():
        distance = head.distance(Points(*torch.from_numpy(lattice.T.copy()))).numpy()
    inside = lattice[distance < 0.0]
    assert np.abs(inside).max() < 0.49
    assert np.hypot(*inside[inside[:, 1] > -0.25][:, [0, 2]].T).max() < 0.30
    assert distance[np.linalg.norm(lattice, axis=1).argmin()] < 0.0


@given(ANY_LATENT)
@settings(max_examples=4, deadline=None)
def test_bounding_boxes_do_not_change_the_surface(latent):
    """Face and ears are evaluated only inside boxes; evaluating them everywhere gives the same surface."""
    head = Head.of(decode(latent))
    p = Points(*(torch.rand(3, 60000, generator=torch.manual_seed(1)) * 0.56 - 0.28))
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        boxed = head.distance(p)
        patch.setattr(head_module, "in_face", lambda q: q.z > -9.0)
        patch.setattr(head_module, "near_ears", lambda q: q.z > -9.0)
        everywhere = head.distance(p)
    near = boxed.abs() < 0.004
    assert (boxed - everywhere)[near].abs().max() < 2e-3
    assert ((boxed - everywhere)[near].abs() > 1e-6).float().mean() < 2e-3


@pytest.mark.parametrize(("seed", "covered"), [(7, "headwear"), (3, "hair")])
def test_labels_name_the_parts(generator, seed, covered):
    """The label is eye at the eye's landmark, skin at the nose's, and hair or headwear at the crown."""
    marks = generator.named_landmarks(generator.sample(seed))
    found = generator.labels(generator.sample(seed), np.stack([marks[n] for n in ("left eye", "nose tip", "crown")]))
    assert [PARTS[label] for label in found] == ["eye", "skin", covered]
