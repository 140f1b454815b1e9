import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.models.metrics import normal_angular_error_deg


@settings(deadline=None)
@given(st.floats(0, 180))
def test_the_angle_between_two_vectors_is_found_exactly(angle):
    """Also near 0 and 180 degrees, and whatever their lengths."""
    target = np.broadcast_to([0.0, 0.0, 2.0], (3, 4, 3))
    turned = np.broadcast_to([0.3 * np.sin(np.radians(angle)), 0, 0.3 * np.cos(np.radians(angle))], (3, 4, 3))
    error = normal_angular_error_deg(turned, target, np.ones((3, 4), bool))
    assert error.mean == pytest.approx(angle, abs=1e-6)
    assert error.median == pytest.approx(angle, abs=1e-6)


def test_only_the_mask_counts_and_a_missing_prediction_is_90_degrees():
    """Angles 0, 0, 90 (a zero vector) and 45 in the mask, anything outside."""
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


def test_an_empty_mask_or_target_is_an_error():
    """There is no mean of nothing, and no angle to no normal."""
    zeros = np.zeros((2, 2, 3))
    with pytest.raises(ValueError, match="empty"):
        normal_angular_error_deg(zeros, zeros, np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="target has no normal"):
        normal_angular_error_deg(zeros, zeros, np.ones((2, 2), bool))
