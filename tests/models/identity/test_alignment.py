import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.utils.face_align import arcface_dst
from scipy.ndimage import gaussian_filter

from spinmeround.models.geometry.cameras import orbit
from spinmeround.models.identity.alignment import align_faces, landmarks_inside, project_landmarks


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(0).uniform(0, 255, (160, 160, 3))
    smooth = gaussian_filter(noise, (4, 4, 0))
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def test_template_landmarks_give_an_identity_transform(image):
    """Landmarks at the template positions crop the upper left 112 x 112 pixels and keep the channel order."""
    crop = align_faces(image[None], arcface_dst[None])
    assert crop.shape == (1, 112, 112, 3)
    assert np.abs(crop[0].astype(int) - image[:112, :112]).max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.floats(-40, 40), st.floats(0.8, 1.3), st.floats(-6, 6))
def test_crops_are_invariant_to_similarity_transforms(angle, scale, shift):
    """A rotated, scaled and shifted image with its landmarks gives the crop of the upright one."""
    linear = scale * np.array(
        [
            [np.cos(np.radians(angle)), -np.sin(np.radians(angle))],
            [np.sin(np.radians(angle)), np.cos(np.radians(angle))],
        ]
    )

    def shade(x, y):
        return np.stack([x + 20, y + 20, 150 + 50 * np.sin(x / 15) * np.cos(y / 15)], axis=-1)

    centre = np.array([56.0, 56.0])
    landmarks = (arcface_dst - centre) @ linear.T + 100 + shift
    rows, columns = np.mgrid[:200, :200]
    back = (np.stack([columns, rows], axis=-1) - 100 - shift) @ np.linalg.inv(linear).T + centre
    moved = np.clip(shade(back[..., 0], back[..., 1]), 0, 255).astype(np.uint8)
    crop = align_faces(moved[None], landmarks[None])[0]
    rows, columns = np.mgrid[30:80, 30:80]
    assert np.abs(crop[30:80, 30:80] - shade(columns, rows)).max() < 6


def test_landmarks_are_projected_to_pixel_centres():
    """A point on the optical axis projects to (side - 1) / 2 in OpenCV's convention."""
    cameras = orbit([0.0, 90.0], [0.0, 0.0])
    positions = project_landmarks(
        cameras, np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0, 0, -0.1]]), 64
    )
    np.testing.assert_allclose(positions[:, 0], 31.5, atol=1e-3)
    assert positions[0, 1, 0] > 31.5 > positions[0, 2, 1]
    assert positions[1, 3, 0] < 31.5 < positions[1, 4, 0]


def test_views_with_a_landmark_outside_are_rejected():
    """A single landmark that is outside the image or not finite rejects the view."""
    landmarks = np.full((4, 5, 2), 10.0)
    landmarks[1, 2, 0] = 63.6
    landmarks[2, 4, 1] = -0.6
    landmarks[3, 0, 0] = np.nan
    assert landmarks_inside(landmarks, 64).tolist() == [True, False, False, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, 30.0], ids=["nan", "infinite", "all equal"])
def test_invalid_landmarks_are_refused(image, value):
    """The error names the image."""
    landmarks = np.stack([arcface_dst, np.full((5, 2), value, np.float32)])
    with pytest.raises(ValueError, match="image 1"):
        align_faces(np.stack([image, image]), landmarks)
