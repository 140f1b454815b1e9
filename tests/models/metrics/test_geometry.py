import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.models.metrics import normal_angular_error_deg

pytestmark = pytest.mark.fast


@settings(deadline=None)
@given(st.floats(0, 180))
def test_angles_are_precise_over_the_full_range(angle):
    """Mean and median equal the known angle, including near 0 and 180 degrees, for vectors of any length."""
    target = np.broadcast_to([0.0, 0.0, 2.0], (3, 4, 3))
    predicted = np.broadcast_to([0.3 * np.sin(np.radians(angle)), 0, 0.3 * np.cos(np.radians(angle))], (3, 4, 3))
    error = normal_angular_error_deg(predicted, target, np.ones((3, 4), bool))
    assert error.mean == pytest.approx(angle, abs=1e-6)
    assert error.median == pytest.approx(angle, abs=1e-6)


def test_statistics_cover_the_mask_and_a_zero_vector_counts_as_90_degrees():
    """Angles 0, 0, 90 (a zero vector) and 45 inside the mask, 180 outside."""
    target = np.zeros((1, 5, 3))
    target[..., 2] = 1
    predicted = target.copy()
    predicted[0, 2] = 0
    predicted[0, 3] = [1, 0, 1]
    predicted[0, 4] = [0, 0, -1]
    error = normal_angular_error_deg(predicted, target, np.array([[True, True, True, True, False]]))
    assert error.mean == pytest.approx(135 / 4)
    assert error.median == pytest.approx(22.5)
    assert 45 < error.percentile_95 < 90


def test_an_empty_mask_and_a_zero_target_are_refused():
    """Both leave the angle undefined."""
    zeros = np.zeros((2, 2, 3))
    with pytest.raises(ValueError, match="empty"):
        normal_angular_error_deg(zeros, zeros, np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="expected a target normal at every masked pixel"):
        normal_angular_error_deg(zeros, zeros, np.ones((2, 2), bool))
