"""The frame of datasets for a photographed head: centre, size and direction by its landmarks.

The mean landmarks of 200 procedural heads fix the frame, so that a photographed head fills the cube of side 1 as these
do: y up, the face along +z. They are symmetric here, and rounded to thousandths.
"""

import numpy as np
import trimesh
from jaxtyping import Float64

from spinmeround.models.geometry.pixel_camera import Similarity

MEAN_LANDMARKS = np.array(
    [
        [-0.059, -0.013, 0.144],
        [0.059, -0.013, 0.144],
        [0, -0.088, 0.211],
        [-0.042, -0.132, 0.163],
        [0.042, -0.132, 0.163],
    ]
)
"""Left eye, right eye, nose tip, left and right corner of the mouth, as seen from the front; world units."""

MAX_RESIDUAL = 0.03
"""Largest root mean square of the distances to the mean landmarks; those of procedural heads are below 0.02."""


def head_frame(landmarks: Float64[np.ndarray, "5 3"]) -> Similarity:
    """The similarity that moves landmarks of any frame and unit closest to `MEAN_LANDMARKS` (Umeyama 1991).

    Raises ValueError for landmarks that are missing (NaN), and those that are not of a face.
    """
    missing = int((~np.isfinite(landmarks)).any(axis=1).sum())
    if missing:
        raise ValueError(
            f"landmarks: expected each of 5 found alike in two pictures or more, found {5 - missing}; add cameras that "
            "see the face"
        )
    matrix, moved, _ = trimesh.registration.procrustes(landmarks, MEAN_LANDMARKS, reflection=False)
    residual = float(np.sqrt(np.square(moved - MEAN_LANDMARKS).sum(axis=1).mean()))
    if not residual <= MAX_RESIDUAL:
        raise ValueError(
            f"landmarks: expected a face, found points whose distances from the mean face are {residual:.3g} sides of "
            f"the head's cube (limit {MAX_RESIDUAL}); check the calibration and its unit, or the detector"
        )
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    return Similarity(scale=scale, rotation=matrix[:3, :3] / scale, translation=matrix[:3, 3])
