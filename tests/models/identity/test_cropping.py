"""Crops of photos compared with PanoHead's published crops and with known poses."""

import numpy as np
import pytest
import skimage.data
from insightface.data import get_object

from spinmeround.models.geometry.cameras import orbit
from spinmeround.models.identity.cropping import (
    HeadSquare,
    cut,
    script_rejections,
    square_and_camera,
    square_of_five,
)
from spinmeround.storage.errors import ConfigError

ASTRONAUT = np.array([[203, 101], [246.5, 103.5], [222, 125], [204.5, 139], [244.5, 140]])
"""Hand-labelled landmarks of skimage.data.astronaut()."""

# Hand-labelled landmarks in two crops of PanoHead's own script (563 pixels, before resizing to 512).
PANOHEAD_CROPS = {
    "man": [[216.7, 267.3], [362.7, 264], [290, 345], [227.3, 408.7], [346, 410]],
    "woman": [[214.3, 268.3], [357.3, 269.3], [284, 362], [224, 410], [344, 407.7]],
}


@pytest.mark.parametrize("name", PANOHEAD_CROPS)
def test_panohead_crops_are_nearly_unchanged(name: str) -> None:
    """Five landmarks alone recover PanoHead's square to a few percent of its side."""
    square = square_of_five(np.array(PANOHEAD_CROPS[name]))
    assert square.side == pytest.approx(563, rel=0.025)
    np.testing.assert_allclose(square.centre, [281, 281], atol=0.035 * 563)
    assert abs(square.right[1] / square.right[0]) < 0.03


# Azimuth, elevation and roll of the cameras that PanoHead publishes for these crops, in degrees.
PANOHEAD_CAMERAS = {"man": (-3.75, 6.83, 0.89), "woman": (0.04, 9.11, -0.88)}


@pytest.mark.parametrize("name", PANOHEAD_CROPS)
def test_68_landmarks_leave_panohead_crops_nearly_unchanged(name: str) -> None:
    """The mean face in the pose that PanoHead publishes, fitted to the eyes and the mouth of its crop, gives back that
    crop to a few percent of its side, its centre to one percent, and the published camera. Its script rejects none."""
    azimuth, elevation, roll = PANOHEAD_CAMERAS[name]
    seen = get_object("meanshape_68.pkl") @ face_rotation(azimuth, elevation, -roll).T
    points, target = five_of(seen)[[0, 1, 3, 4]], np.array(PANOHEAD_CROPS[name])[[0, 1, 3, 4]]
    moved = points - points.mean(axis=0)
    scale = (moved * (target - target.mean(axis=0))).sum() / (moved**2).sum()
    seen = scale * (seen - [*points.mean(axis=0), 0.0]) + [*target.mean(axis=0), 0.0]
    square, cam2world = square_and_camera(seen)
    assert square.side == pytest.approx(563, rel=0.035)
    np.testing.assert_allclose(square.centre, [281, 281], atol=0.01 * 563)
    assert abs(square.right[1] / square.right[0]) < 0.04
    np.testing.assert_allclose(cam2world[:3, 3], orbit([azimuth], [elevation]).cam2world[0, :3, 3], atol=2e-3)
    assert script_rejections(seen, square, cam2world) == ()


def face_rotation(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """Rotation of a face in the picture (y down, z towards the viewer) of a camera of the orbit, then rolled."""
    to_view = np.diag([1.0, -1.0, -1.0]) @ orbit([azimuth], [elevation]).cam2world[0, :3, :3].T
    flip, angle = np.diag([1.0, -1.0, 1.0]), np.radians(roll)
    held = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return held @ flip @ to_view @ flip


def five_of(points: np.ndarray) -> np.ndarray:
    """Eyes, nose tip and corners of the mouth among 68 landmarks, in the picture."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])[:, :2]


@pytest.mark.parametrize(
    ("scale", "shift", "turn", "expected"),
    [
        (1.0, 0.0, (0.0, 0.0, 0.0), []),
        (1.6, 0.0, (0.0, 0.0, 0.0), ["its size is 1."]),
        (0.6, 0.0, (0.0, 0.0, 0.0), ["its size is 0."]),
        (1.0, 1.2, (0.0, 0.0, 0.0), ["its centre is outside of FFHQ's crop"]),
        (1.0, 0.0, (0.0, 84.0, 0.0), ["its pitch is 84 degrees"]),
        (1.0, 0.0, (0.0, 0.0, 55.0), ["its roll is 55 degrees"]),
        (1.6, 1.2, (80.0, 0.0, 0.0), ["its size is 1.", "its centre is outside"]),
    ],
    ids=["a portrait", "large", "small", "beside", "from above", "rolled", "large and beside"],
)
def test_rejections_of_panoheads_script_are_named(
    scale: float, shift: float, turn: tuple[float, float, float], expected: list[str]
) -> None:
    """A square that is scaled or moved from that of a frontal face, and a turned camera: each has its reason."""
    seen = 200 * get_object("meanshape_68.pkl") + [300, 250, 0]
    square, _ = square_and_camera(seen)
    square = HeadSquare(centre=square.centre + np.array([shift * square.side / 2, 0]), right=scale * square.right)
    view = np.diag([1.0, -1.0, 1.0]) @ face_rotation(turn[0], turn[1], -turn[2]) @ np.diag([1.0, -1.0, 1.0])
    cam2world = np.eye(4)
    cam2world[:3, :3] = view.T @ np.diag([1.0, -1.0, -1.0])
    found = script_rejections(seen, square, cam2world)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (25.0, 0.0), (-40.0, 10.0), (10.0, -20.0)])
@pytest.mark.parametrize("roll", [0.0, 20.0])
def test_the_camera_is_recovered_from_landmarks(azimuth: float, elevation: float, roll: float) -> None:
    """The mean face, projected by a known camera into a rolled photo, gives that camera."""
    camera = orbit([azimuth], [elevation])
    to_view = np.diag([1.0, -1.0, -1.0]) @ camera.cam2world[0, :3, :3].T  # world to x right, y up, z to the viewer
    flip = np.diag([1.0, -1.0, 1.0])
    angle = np.radians(roll)
    held = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    seen = 200 * get_object("meanshape_68.pkl") @ (held @ flip @ to_view @ flip).T + [300, 250, 0]
    square, cam2world = square_and_camera(seen)
    expected = camera.cam2world[0]
    np.testing.assert_allclose(cam2world[:3, 3], expected[:3, 3], atol=1e-4)
    tilt = np.degrees(np.arctan2(square.right[1], square.right[0])) - roll
    assert abs(tilt) < 7  # FFHQ's direction deviates for a turned and tilted face
    turned = np.degrees(np.arccos(np.clip((np.trace(cam2world[:3, :3].T @ expected[:3, :3]) - 1) / 2, -1, 1)))
    assert turned == pytest.approx(abs(tilt), abs=0.1)  # camera and square have the same roll
    assert square.side == pytest.approx(200 * 1.892 * 1.1, rel=1e-3)


def test_a_face_in_profile_keeps_its_size() -> None:
    """With a small distance between the eyes, the distance from eyes to mouth sets the size."""
    face = np.array([[-30.0, 0], [30, 0], [0, 35], [-25, 63], [25, 63]])
    turned = face * [0.5, 1]
    assert square_of_five(turned).side > 0.9 * square_of_five(face).side


def test_crops_match_the_affine_map() -> None:
    """A dot in the photo appears at the position given by the affine map, after downsampling too."""
    photo = np.full((1500, 1500, 3), 255, np.uint8)
    photo[700:716, 900:916] = 0
    square = square_of_five(np.array([[650.0, 640], [850, 660], [740, 760], [660, 860], [820, 870]]))
    crop = cut(photo, square, 128, "white")
    assert crop.shape == (128, 128, 3)
    dark = 255 - crop[..., 0].astype(float)
    found = [(dark.sum(axis) * np.arange(128)).sum() / dark.sum() for axis in (0, 1)]
    expected = square.to_crop(128) @ [907.5, 707.5, 1]
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_a_portrait_fills_the_crop() -> None:
    """Eyes are level, symmetric about the centre, and at PanoHead's position."""
    square = square_of_five(ASTRONAUT)
    shown = np.column_stack([ASTRONAUT, np.ones(5)]) @ square.to_crop(512).T
    np.testing.assert_allclose(shown[:2].mean(axis=0), [255, 240], atol=12)
    assert abs(shown[0, 1] - shown[1, 1]) < 10
    crop = cut(np.asarray(skimage.data.astronaut()), square, 512, "white")
    assert crop.shape == (512, 512, 3)
    assert crop.std() > 40


@pytest.mark.parametrize("border", ["white", "blurred"])
def test_pixels_outside_the_photo_are_white_or_blurred(border: str) -> None:
    """For a face at the edge, the missing part is white or a smooth continuation of the photo."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 80, (200, 200, 3), dtype=np.uint8)
    square = square_of_five(ASTRONAUT - ASTRONAUT[2] + [20, 100])
    outside = cut(photo, square, 128, border)[:, :30].astype(float)
    if border == "white":
        assert outside.min() == 255
    else:
        assert outside.max() < 90
        assert outside.std() < 0.5 * photo.std()


def test_coinciding_landmarks_are_refused() -> None:
    """Landmarks that coincide or are NaN raise an error."""
    with pytest.raises(ValueError, match="expected two eyes and a mouth"):
        square_of_five(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="expected two eyes and a mouth"):
        square_of_five(np.full((5, 2), np.nan))


def test_a_square_out_of_proportion_is_refused() -> None:
    """A square so large that the photo would shrink to nothing is an error, not one of OpenCV."""
    square = HeadSquare(centre=np.array([5.0, 5.0]), right=np.array([5e8, 0.0]))
    with pytest.raises(ConfigError, match="crop: expected a square in proportion to the photo of 8 x 6 px"):
        cut(np.zeros((6, 8, 3), np.uint8), square, 64, "white")
