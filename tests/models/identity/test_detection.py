"""Face detection by stub networks in InsightFace's format, which find a face in the image centre."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.identity.detection import FaceDetector, Landmarks3D
from spinmeround.models.identity.params import DetectionParams
from spinmeround.tasks.weights.stub_onnx import write_detector, write_landmarks_3d
from tests.models.identity.networks import write_network


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    write_detector(folder / "det.onnx", widths=(4, 4, 8, 8, 8), seed=0)
    write_landmarks_3d(folder / "1k3d68.onnx", seed=0)
    return folder


def head(side: int) -> np.ndarray:
    """A white image with a coloured square in the middle."""
    image = np.full((side, side, 3), 255, np.uint8)
    image[side // 4 : -side // 4, side // 4 : -side // 4] = (200, 120, 90)
    return image


@pytest.mark.parametrize("side", [128, 512, 700])
def test_positions_are_in_pixels_of_the_image(pack: Path, side: int) -> None:
    """For images of any size, box and landmarks are at fixed fractions of the side."""
    face = FaceDetector(pack / "det.onnx").largest(head(side))
    assert face is not None
    assert face.score == pytest.approx(0.9, abs=1e-4)
    np.testing.assert_allclose(face.box / side, [0.3, 0.25, 0.7, 0.75], atol=1e-6)
    np.testing.assert_allclose(face.landmarks[0] / side, [0.4, 0.42], atol=1e-6)
    np.testing.assert_allclose(face.landmarks[4] / side, [0.57, 0.62], atol=1e-6)


def test_no_face_is_none(pack: Path) -> None:
    """A white image, or a threshold above every score, gives None."""
    white = np.full((256, 256, 3), 255, np.uint8)
    assert FaceDetector(pack / "det.onnx").largest(white) is None
    assert FaceDetector(pack / "det.onnx", DetectionParams(threshold=0.95)).largest(head(256)) is None


def test_the_input_size_is_configurable(pack: Path) -> None:
    """The detector runs once at the configured size, not at insightface's two default sizes."""
    detector = FaceDetector(pack / "det.onnx", DetectionParams(side=320))
    assert detector.largest(head(200)) is not None
    assert detector._detector.input_sizes == [(320, 320)]


def test_landmarks_in_3d_fit_the_box(pack: Path) -> None:
    """68 landmarks scale with the box; on a frontal face the eyes are level and the nose is nearest."""
    network, image = Landmarks3D(pack / "1k3d68.onnx"), head(256)
    small = network.find(image, np.array([96, 96, 160, 160], np.float32))
    large = network.find(image, np.array([64, 64, 192, 192], np.float32))
    assert small.shape == (68, 3)
    assert abs(small[36, 1] - small[45, 1]) < 1
    assert small[:, 2].argmax() == 30
    np.testing.assert_allclose(np.ptp(large, axis=0) / np.ptp(small, axis=0), 2.0, rtol=0.03)


def test_other_networks_are_refused(pack: Path, tmp_path: Path) -> None:
    """A recognition network in place of the expected one, and a missing file, raise an error that names it."""
    path, _ = write_network(tmp_path / "r.onnx")
    with pytest.raises(ValueError, match=r"face detector: expected 9 or 15 outputs .* got 1"):
        FaceDetector(path)
    with pytest.raises(ValueError, match=r"3D landmark network: .*use 1k3d68.onnx"):
        Landmarks3D(path)
    with pytest.raises(ValueError, match=r"face detector: expected an ONNX file, found nothing"):
        FaceDetector(tmp_path / "absent.onnx")
