"""The frame of a head by its landmarks."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spinmeround.models.identity.head_frame import MEAN_LANDMARKS, head_frame
from spinmeround.tasks.embedded.pictures import face_landmarks


def test_a_similarity_of_the_mean_face_is_undone() -> None:
    """Turned, in millimetres and elsewhere: the landmarks and any other point come back."""
    rotation = Rotation.from_rotvec([0.4, 2.0, -1.0]).as_matrix()
    other = np.array([[0.1, 0.2, -0.3]])
    moved = [260.0 * points @ rotation.T + [5.0, -900.0, 40.0] for points in (MEAN_LANDMARKS, other)]
    found = head_frame(moved[0])
    np.testing.assert_allclose(found.points(moved[0]), MEAN_LANDMARKS, atol=1e-9)
    np.testing.assert_allclose(found.points(moved[1]), other, atol=1e-9)
    assert found.scale == pytest.approx(1 / 260)


def test_procedural_heads_keep_their_place() -> None:
    """The mean of their landmarks is the frame's, to a hundredth; each is moved by little, as its pose varies."""
    landmarks = np.stack([face_landmarks(seed) for seed in range(8)]).astype(np.float64)
    np.testing.assert_allclose(landmarks.mean(axis=0), MEAN_LANDMARKS, atol=0.02)
    frames = [head_frame(each) for each in landmarks]
    assert np.mean([frame.scale for frame in frames]) == pytest.approx(1.0, abs=0.05)
    assert max(np.linalg.norm(frame.points(np.zeros(3))) for frame in frames) < 0.15


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.where(np.arange(5)[:, None] == 2, np.nan, MEAN_LANDMARKS), "found 4; add cameras"),
        (MEAN_LANDMARKS[::-1] * [1.0, 3.0, 1.0], "expected a face"),
    ],
    ids=["missing", "no face"],
)
def test_no_face_is_refused(landmarks: np.ndarray, message: str) -> None:
    """The error says how many landmarks are known, or that they are not those of a face."""
    with pytest.raises(ValueError, match=message):
        head_frame(landmarks)
