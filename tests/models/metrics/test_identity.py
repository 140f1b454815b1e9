import numpy as np
import pytest

from spinmeround.models.metrics import identity_similarity


def test_known_cosines():
    """Equal, orthogonal and opposite vectors, independent of length."""
    a = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [1.0, 1.0]])
    b = np.array([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(identity_similarity(a, b), [1, 0, -1, np.sqrt(0.5)], atol=1e-12)


def test_a_view_without_a_face_has_no_similarity():
    """A NaN row gives NaN and does not affect other rows."""
    a = np.array([[np.nan, np.nan], [1.0, 0.0]])
    values = identity_similarity(a, np.ones((2, 2)))
    assert np.isnan(values[0])
    assert values[1] == pytest.approx(np.sqrt(0.5))


def test_a_zero_embedding_is_refused():
    """The cosine of a zero vector is undefined."""
    with pytest.raises(ValueError, match="zero"):
        identity_similarity(np.zeros((1, 4)), np.ones((1, 4)))
