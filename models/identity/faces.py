"""Faces in a picture, and the interface of what finds them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True, kw_only=True)
class DetectedFace:
    """A face: its box (left, top, right, bottom), score and five landmarks, in pixels as in `alignment`."""

    box: Float32[np.ndarray, "4"]
    score: float
    landmarks: Float32[np.ndarray, "5 2"]


class FaceFinder(Protocol):
    """Finds faces: `detection.FaceDetector` for photos, `face_heatmap.HeatmapFaceFinder` for small previews."""

    def find(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedFace]:
        """All faces, the one with the highest score first."""
