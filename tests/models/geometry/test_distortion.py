"""Pictures without the distortion of their lens, in the model of OpenCV."""

import numpy as np
import pytest

from spinmeround.models.geometry.distortion import distortions_of_transforms, undistorted
from spinmeround.models.geometry.transforms import transforms_json
from tests.models.geometry.test_transforms import document

SIDE, WHITE = 96, (255, 255, 255)
INTRINSICS = np.array([[1.1, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
COEFFICIENTS = (-0.3, 0.1, 0.01, -0.02, 0.05, 0.0, 0.0, 0.0)


def distorted(x: float, y: float, c: tuple[float, ...]) -> tuple[float, float]:
    """Brown and Conrady's model, written out."""
    k1, k2, p1, p2, k3 = c[:5]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y


def blob(x: float, y: float) -> np.ndarray:
    """A dark spot round a position in pixels, whose first pixel has its centre at 0.5."""
    row, column = np.mgrid[:SIDE, :SIDE] + 0.5
    dark = np.exp(-((column - x) ** 2 + (row - y) ** 2) / 8)
    return np.repeat((255 - 250 * dark)[..., None], 3, axis=2).round().astype(np.uint8)


@pytest.mark.parametrize("ray", [(0.1, 0.05), (-0.2, 0.25), (0.3, -0.3), (0.0, 0.0)])
def test_points_move_to_where_a_pinhole_sees_them(ray: tuple[float, float]) -> None:
    """A point that the lens shows at its distorted place is at its undistorted one afterwards, within 0.1 pixels."""
    seen = (INTRINSICS @ [*distorted(*ray, COEFFICIENTS), 1.0])[:2] * SIDE
    expected = (INTRINSICS @ [*ray, 1.0])[:2] * SIDE
    found = undistorted(blob(*seen), INTRINSICS, COEFFICIENTS, WHITE)[..., 0]
    weight = 255.0 - found
    weight[weight < 20] = 0
    row, column = np.mgrid[:SIDE, :SIDE] + 0.5
    centre = np.array([(weight * column).sum(), (weight * row).sum()]) / weight.sum()
    np.testing.assert_allclose(centre, expected, atol=0.1)


def test_coefficients_that_fold_the_picture_are_refused() -> None:
    """Such as those of a fisheye."""
    with pytest.raises(ValueError, match="keeps the order of the pixels"):
        undistorted(blob(5, 5), INTRINSICS, (-6.0, *[0.0] * 7), WHITE)


def test_what_the_picture_does_not_show_is_background() -> None:
    """A barrel distortion is a smaller picture inside of the pinhole's."""
    found = undistorted(np.zeros((SIDE, SIDE, 3), np.uint8), INTRINSICS, (0.5, *[0.0] * 7), (1, 2, 3))
    assert found[0, 0].tolist() == [1, 2, 3]
    assert found[SIDE // 2, SIDE // 2].tolist() == [0, 0, 0]


def test_coefficients_of_a_document() -> None:
    """A frame's replace those of all frames; both ways to write them are read; zeros are none."""
    made = document()
    made["frames"] = [dict(made["frames"][0]) for _ in range(3)]
    made |= {"k1": 0.1, "p2": 0.2}
    made["frames"][1] |= {"distortion_params": [1.0, 2.0, 3.0, 0.0, 4.0, 5.0]}
    made["frames"][2] |= {"k1": 0.0}
    assert distortions_of_transforms(made) == [
        (0.1, 0, 0, 0.2, 0, 0, 0, 0),
        (1.0, 2.0, 4.0, 5.0, 3.0, 0, 0, 0),
        None,
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k4": 0.1}, "k4: expected 0 but for the camera_model FULL_OPENCV"),
        ({"distortion_params": [*[0.0] * 6, 0.1]}, "distortion_params: expected k1, k2, k3, k4, p1, p2"),
        ({"distortion_params": [0.1], "k1": 0.1}, "no other coefficients"),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1}, "expected a pinhole"),
    ],
)
def test_coefficients_of_unknown_meaning_are_refused(fields: dict[str, object], message: str) -> None:
    """By the name of the field."""
    with pytest.raises(ValueError, match=message):
        distortions_of_transforms({**document(), **fields})


def test_written_documents_have_no_distortion() -> None:
    """Our own cameras are pinholes."""
    from spinmeround.models.geometry.cameras import ViewGrid

    cameras = ViewGrid(azimuths=2, elevations_deg=(0.0,)).cameras()
    assert distortions_of_transforms(transforms_json(cameras, 16, ["a", "b"])) == [None, None]
