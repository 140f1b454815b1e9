"""Face detection by an InsightFace detector (SCRFD, Guo et al. 2021), and 68 landmarks in 3D by another network.

insightface's own classes run both. Images are RGB; positions are in pixels in OpenCV's convention (x right, y down,
(0, 0) the centre of the first pixel), in the landmark order of `models.identity.alignment`.
"""

from pathlib import Path

import numpy as np
from insightface.app.common import Face as InsightFace
from insightface.model_zoo.landmark import Landmark
from insightface.model_zoo.scrfd import SCRFD
from jaxtyping import Float32, UInt8

from spinmeround.models.identity.faces import DetectedFace
from spinmeround.models.identity.onnx_sessions import network_errors, open_session
from spinmeround.models.identity.params import DetectionParams
from spinmeround.storage.errors import ConfigError


class FaceDetector:
    """A face detector with landmarks, from an ONNX file."""

    def __init__(
        self, path: Path, params: DetectionParams | None = None, providers: tuple[str, ...] | None = None
    ) -> None:
        """Raises ConfigError for a file that is missing or not a detector with landmarks."""
        params = params or DetectionParams()
        session = open_session(path, "face detector", providers)
        outputs = len(session.get_outputs())
        if outputs not in (9, 15):
            raise ConfigError(
                f"face detector: expected 9 or 15 outputs (scores, boxes and landmarks), got {outputs} in {path}; "
                "use a detector with landmarks, such as scrfd_10g_bnkps.onnx or det_10g.onnx"
            )
        self._failed = f"face detector: expected a network that finds faces, {path} fails"
        with network_errors(self._failed):
            self._detector = SCRFD(model_file=str(path), session=session, static_shape_sessions=False)
            self._detector.prepare(0, input_size=(params.side, params.side), det_thresh=params.threshold)

    def largest(self, image: UInt8[np.ndarray, "height width 3"]) -> DetectedFace | None:
        """The face with the largest box, or None if no face is found. Raises ConfigError if the network fails."""
        return next(iter(self._detect(image, most=1)), None)

    def find(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedFace]:
        """All faces, the one with the highest score first. Raises ConfigError if the network fails."""
        return sorted(self._detect(image, most=0), key=lambda face: -face.score)

    def _detect(self, image: UInt8[np.ndarray, "height width 3"], most: int) -> list[DetectedFace]:
        with network_errors(self._failed):
            found = self._detector.detect(np.ascontiguousarray(image[..., ::-1]), max_num=most, metric="max")
        boxes, landmarks = (np.asarray(each, np.float32) for each in found)
        if not (np.isfinite(boxes).all() and np.isfinite(landmarks).all()):
            raise ConfigError(f"{self._failed} (it returns positions that are not finite)")
        return [
            DetectedFace(box=box[:4], score=float(box[4]), landmarks=places.reshape(5, 2))
            for box, places in zip(boxes, landmarks, strict=True)
        ]


class Landmarks3D:
    """68 landmarks in 3D (1k3d68), from an ONNX file: x and y in pixels, z towards the viewer at the same scale."""

    def __init__(self, path: Path, providers: tuple[str, ...] | None = None) -> None:
        """Raises ConfigError for a file that is missing or not a network of 68 landmarks in 3D."""
        session = open_session(path, "3D landmark network", providers)
        taken, given = session.get_inputs()[0].shape, session.get_outputs()[0].shape
        if taken[-2:] != [192, 192] or given[-1:] != [3309]:
            raise ConfigError(
                f"3D landmark network: expected input [n, 3, 192, 192] and output [n, 3309], got {taken} and {given} "
                f"in {path}; use 1k3d68.onnx"
            )
        self._failed = f"3D landmark network: expected 68 landmarks, {path} fails"
        with network_errors(self._failed):
            self._network = Landmark(model_file=str(path), session=session)

    def find(
        self, image: UInt8[np.ndarray, "height width 3"], box: Float32[np.ndarray, "4"]
    ) -> Float32[np.ndarray, "68 3"]:
        """Landmarks of the face in a box, numbered as in dlib and 300-W. Raises ConfigError if the network fails."""
        face = InsightFace(bbox=box)
        with network_errors(self._failed):
            found = self._network.get(np.ascontiguousarray(image[..., ::-1]), face)
            landmarks = np.asarray(found, np.float32).reshape(68, 3)
        if not np.isfinite(landmarks).all():
            raise ConfigError(f"{self._failed} (it returns positions that are not finite)")
        return landmarks
