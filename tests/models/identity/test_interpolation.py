import numpy as np
import pytest

from spinmeround.models.identity.interpolation import interpolate_identities
from spinmeround.models.identity.params import InterpolationMethod

pytestmark = pytest.mark.fast


def ends(seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(2, 512))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("method", ["spherical", "linear"])
def test_paths_include_both_ends_and_have_unit_length(method: InterpolationMethod) -> None:
    """First and last vectors are the inputs; all have unit length and lie in the plane of the two."""
    a, b = ends()
    between = interpolate_identities(a, b, 7, method)
    np.testing.assert_allclose(between[[0, -1]], [a, b], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(between, axis=1), 1, atol=1e-6)
    assert np.linalg.matrix_rank(np.stack([a, b, *between]).astype(np.float64), tol=1e-4) == 2


def test_spherical_steps_are_equal_angles_and_linear_steps_equal_chord_parts() -> None:
    """Spherical steps have equal angles; the linear path has the same midpoint and a different quarter point."""
    a, b = ends()
    sphere, chord = (interpolate_identities(a, b, 5, method).astype(np.float64) for method in ("spherical", "linear"))
    angles = np.arccos(np.clip((sphere[1:] * sphere[:-1]).sum(1), -1, 1))
    np.testing.assert_allclose(angles, np.arccos(a.astype(float) @ b) / 4, rtol=1e-5)
    np.testing.assert_allclose(sphere[2], chord[2], atol=1e-6)
    quarter = 0.75 * a + 0.25 * b
    np.testing.assert_allclose(chord[1], quarter / np.linalg.norm(quarter), atol=1e-6)
    assert np.abs(sphere[1] - chord[1]).max() > 1e-4


def test_undefined_paths_are_refused() -> None:
    """A single step and opposite identities raise an error; equal identities give a constant path."""
    a, b = ends()
    with pytest.raises(ValueError, match="steps: expected 2 or more"):
        interpolate_identities(a, b, 1)
    with pytest.raises(ValueError, match="expected two that are not opposite"):
        interpolate_identities(a, -a, 3)
    np.testing.assert_allclose(interpolate_identities(a, a, 3), [a, a, a], atol=1e-6)
