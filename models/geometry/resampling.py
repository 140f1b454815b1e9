"""Pictures of a calibrated camera as a dataset has them: a square crop around the head, through a pinhole."""

import numpy as np
from jaxtyping import Float32, Float64

from spinmeround.models.geometry.distortion import pinhole_maps
from spinmeround.models.geometry.pixel_camera import PixelCamera

_MOST_SAMPLES = 8
"""Samples per pixel and axis; the pixels of a crop that is shrunk further are means of every second pixel or so."""


def resample(
    picture: Float32[np.ndarray, "height width channel"],
    camera: PixelCamera,
    intrinsics: Float64[np.ndarray, "3 3"],
    side: int,
    outside: tuple[float, ...],
) -> Float32[np.ndarray, "side side channel"]:
    """What a pinhole at the camera's pose with these intrinsics, in image sides, sees; `outside` beyond the picture.

    Each pixel is the mean over its area. At most four channels. Raises ValueError for a distortion that folds the
    picture: that of another lens, or of other units.
    """
    import cv2

    shrinks = camera.matrix[[0, 1], [0, 1]] / (intrinsics[[0, 1], [0, 1]] * side)
    samples = int(np.clip(np.ceil(shrinks.max()), 1, _MOST_SAMPLES))
    fine = intrinsics.copy()
    fine[:2] *= side * samples
    fine[:2, 2] -= 0.5  # OpenCV counts from the centre of the first pixel
    x, y = pinhole_maps(camera.matrix, camera.coefficients, fine, (side * samples, side * samples))
    large = cv2.remap(
        np.ascontiguousarray(picture),
        x,
        y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=outside,
    )
    found = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA) if samples > 1 else large
    return np.asarray(found, np.float32).reshape(side, side, -1)
