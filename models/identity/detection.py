"""Faces in pictures by a detector of an InsightFace pack (SCRFD, Guo et al. 2021), and 68 landmarks in 3D by another.

insightface's own classes run both. Pictures are RGB; positions are in pixels as OpenCV counts them (x right, y down,
(0, 0) the centre of the first pixel), in the order of `models.identity.alignment`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from insightface.app.common import Face as InsightFace
from insightface.model_zoo.landmark import Landmark
from insightface.model_zoo.scrfd import SCRFD
from jaxtyping import Float32, UInt8
from pydantic import Field

from spinmeround.models.identity.onnx_sessions import open_session
from spinmeround.storage.records import FrozenModel


class DetectionParams(FrozenModel):
    """How faces are looked for."""

    side: int = Field(640, ge=64, multiple_of=32, description="Pictures are fitted into a square of this side")
    threshold: float = Field(0.5, gt=0.0, lt=1.0, description="Least score of a face")


@dataclass(frozen=True, kw_only=True)
class DetectedFace:
    """The largest face of a picture: its box (left, top, right, bottom), score and five landmarks."""

    box: Float32[np.ndarray, "4"]
    score: float
    landmarks: Float32[np.ndarray, "5 2"]


class FaceDetector:
    """A detector with landmarks, in an ONNX file."""

    def __init__(
        self, path: Path, params: DetectionParams | None = None, providers: tuple[str, ...] | None = None
    ) -> None:
        """Raises ValueError for a file that is missing, or no detector with landmarks."""
        params = params or DetectionParams()
        session = open_session(path, "face detector", providers)
        outputs = len(session.get_outputs())
        if outputs not in (9, 15):
            raise ValueError(
                f"face detector: {path} gives {outputs} outputs, expected 9 or 15 (scores, boxes and landmarks); "
                "take a detector with landmarks, such as scrfd_10g_bnkps.onnx or det_10g.onnx"
            )
        self._detector = SCRFD(model_file=str(path), session=session, static_shape_sessions=False)
        self._detector.prepare(0, input_size=(params.side, params.side), det_thresh=params.threshold)

    def largest(self, image: UInt8[np.ndarray, "height width 3"]) -> DetectedFace | None:
        """The face with the largest box, None where there is none."""
        boxes, landmarks = self._detector.detect(np.ascontiguousarray(image[..., ::-1]), max_num=1, metric="max")
        if not len(boxes):
            return None
        return DetectedFace(
            box=np.asarray(boxes[0, :4], np.float32),
            score=float(boxes[0, 4]),
            landmarks=np.asarray(landmarks[0], np.float32),
        )


class Landmarks3D:
    """68 landmarks in 3D (1k3d68), in an ONNX file: x and y in pixels, z towards the viewer, to the same scale."""

    def __init__(self, path: Path, providers: tuple[str, ...] | None = None) -> None:
        """Raises ValueError for a file that is missing, or no network of 68 landmarks in 3D."""
        session = open_session(path, "landmarks in 3D", providers)
        taken, given = session.get_inputs()[0].shape, session.get_outputs()[0].shape
        if taken[-2:] != [192, 192] or given[-1] != 3309:
            raise ValueError(
                f"landmarks in 3D: {path} takes {taken} and gives {given}, expected [n, 3, 192, 192] and [n, 3309]; "
                "take 1k3d68.onnx"
            )
        self._network = Landmark(model_file=str(path), session=session)

    def find(
        self, image: UInt8[np.ndarray, "height width 3"], box: Float32[np.ndarray, "4"]
    ) -> Float32[np.ndarray, "68 3"]:
        """Landmarks of the face in a box, numbered as in dlib and 300-W."""
        face = InsightFace(bbox=box)
        return np.asarray(self._network.get(np.ascontiguousarray(image[..., ::-1]), face), np.float32)
