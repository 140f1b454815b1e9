"""The embedded face detector: a small network of `face_network`, for previews whose faces have about one size.

Its landmarks are those of an upright face of the found size, which align a crop, and are no measurement.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from spinmeround.models.identity.faces import DetectedFace
from spinmeround.models.identity.onnx_sessions import open_session

SIDE, STRIDE, USUAL_SIZE = 64, 4, 10.0
"""Side of the network's input, pixels of a cell, and size (eyes to mouth) of a usual face, in pixels of the input."""

LOWEST = 0.2
"""Lowest score of a face."""

UPRIGHT = np.array([(-0.6, -0.5), (0.6, -0.5), (0.0, 0.23), (-0.37, 0.5), (0.37, 0.5)], np.float32)
"""Landmarks of an upright face round its centre, in sizes."""


class HeatmapFaceFinder:
    """A detector from an ONNX file; implements `faces.FaceFinder`."""

    def __init__(self, path: Path, providers: tuple[str, ...] | None = None) -> None:
        """Raises ValueError for a file that is missing or not a network of `face_network`."""
        self._session = open_session(path, "face detector", providers)
        taken, given = self._session.get_inputs()[0].shape, self._session.get_outputs()[0].shape
        if list(taken[1:]) != [3, SIDE, SIDE] or list(given[1:]) != [2, SIDE // STRIDE, SIDE // STRIDE]:
            raise ValueError(
                f"face detector: expected input [n, 3, {SIDE}, {SIDE}] and output [n, 2, {SIDE // STRIDE}, "
                f"{SIDE // STRIDE}], got {taken} and {given} in {path}; use the embedded detector or a pack"
            )

    def find(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedFace]:
        """All faces of a square picture, the one with the highest score first."""
        scale = image.shape[0] / SIDE
        small = image if scale == 1.0 else cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pixels = ((small.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]
        (found,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        heat = 1.0 / (1.0 + np.exp(-found[0, 0].astype(np.float64)))
        peaks = np.argwhere((heat >= LOWEST) & (heat == ndimage.maximum_filter(heat, 3)))
        faces = [_face(found[0], heat, int(row), int(column), scale) for row, column in peaks]
        return sorted(faces, key=lambda face: -face.score)


def _face(
    found: Float32[np.ndarray, "2 rows columns"], heat: np.ndarray, row: int, column: int, scale: float
) -> DetectedFace:
    """The face at a cell: its centre is the heat's mean around it, so that it lies between cells."""
    rows, columns = (slice(max(0, at - 1), at + 2) for at in (row, column))
    weight = heat[rows, columns]
    y, x = (STRIDE * (np.indices(heat.shape)[axis][rows, columns] + 0.5) - 0.5 for axis in (0, 1))
    size = float(USUAL_SIZE * np.exp(np.clip(found[1, row, column], -1.5, 1.5)) * scale)
    centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    centre = (centre + 0.5) * scale - 0.5
    box = np.concatenate([centre - 1.2 * size, centre + 1.2 * size])
    return DetectedFace(
        box=box.astype(np.float32),
        score=float(heat[row, column]),
        landmarks=(centre + size * UPRIGHT).astype(np.float32),
    )
