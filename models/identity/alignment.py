"""Aligned face crops for ArcFace: a similarity transform maps five landmarks to ArcFace's template.

Landmarks are in the template's order, as seen in the image: left eye, right eye, nose tip, left and right mouth corner.
Positions are in pixels in OpenCV's convention: x right, y down, (0, 0) is the centre of the first pixel.
"""

import warnings

import numpy as np
from insightface.utils import face_align
from jaxtyping import Bool, Float, Float32, UInt8

from spinmeround.models.geometry.cameras import Cameras, project
from spinmeround.models.identity.params import CROP_SIDE


def project_landmarks(
    cameras: Cameras, landmarks: Float[np.ndarray, "landmark 3"], resolution: int
) -> Float32[np.ndarray, "view landmark 2"]:
    """Pixel positions of world-frame points in square images of this resolution."""
    positions, _ = project(cameras, landmarks)
    return (positions * resolution - 0.5).astype(np.float32)


def landmarks_inside(landmarks: Float[np.ndarray, "view landmark 2"], resolution: int) -> Bool[np.ndarray, " view"]:
    """Which views have all landmarks finite and inside the image."""
    inside = np.isfinite(landmarks) & (landmarks >= -0.5) & (landmarks <= resolution - 0.5)
    return np.asarray(inside.all(axis=(1, 2)))


def align_faces(
    images: UInt8[np.ndarray, "view height width 3"], landmarks: Float[np.ndarray, "view 5 2"]
) -> UInt8[np.ndarray, "view 112 112 3"]:
    """Crops by insightface's `norm_crop` (bilinear, black outside the image); keeps the channel order.

    Raises:
        ValueError: if the landmarks of a view are not finite or coincide.
    """
    crops = [
        _align_face(image, points, view) for view, (image, points) in enumerate(zip(images, landmarks, strict=True))
    ]
    return np.stack(crops) if crops else np.zeros((0, CROP_SIDE, CROP_SIDE, 3), np.uint8)


def _align_face(
    image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "5 2"], view: int
) -> UInt8[np.ndarray, "112 112 3"]:
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() < 1e-3:
        raise ValueError(
            f"landmarks: expected five different pixel positions for image {view}, got {landmarks.tolist()}"
        )
    with warnings.catch_warnings():
        # insightface calls a deprecated method of scikit-image
        warnings.filterwarnings("ignore", message="`estimate` is deprecated", category=FutureWarning)
        return np.asarray(face_align.norm_crop(image, landmarks.astype(np.float32), image_size=CROP_SIDE))
