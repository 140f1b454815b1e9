"""Removes the distortion of a lens from pictures, in OpenCV's model (Brown and Conrady, rational with k4 to k6)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from spinmeround.models.geometry.transforms_schema import TransformsDocument


def distortions_of_transforms(document: Mapping[str, Any]) -> list[tuple[float, ...] | None]:
    """OpenCV's k1, k2, p1, p2, k3, k4, k5, k6 of each frame; None for a frame without distortion.

    Raises ValueError for fields that `TransformsDocument` refuses.
    """
    return TransformsDocument.of(document, distorted_too=True).distortions()


def undistorted(
    picture: UInt8[np.ndarray, "height width 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    coefficients: Sequence[float],
    background: tuple[int, int, int],
) -> UInt8[np.ndarray, "height width 3"]:
    """What a pinhole with the same intrinsics, in image sides, sees; `background` is what the picture doesn't show.

    Raises ValueError for a distortion that folds the picture: that of another lens, or of other units.
    """
    import cv2

    height, width = picture.shape[:2]
    matrix = np.array(intrinsics, np.float64)
    matrix[0] *= width
    matrix[1] *= height
    matrix[:2, 2] -= 0.5  # OpenCV counts from the centre of the first pixel
    x, y = pinhole_maps(matrix, coefficients, matrix, (width, height))
    found = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=background)
    return np.asarray(found, np.uint8)


def pinhole_maps(
    matrix: Float64[np.ndarray, "3 3"],
    coefficients: Sequence[float],
    pinhole: Float64[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]:
    """Where a lens has the pixels of a `pinhole` at the same place: x and y in its picture, for OpenCV's `remap`.

    Both matrices are in pixels in OpenCV's convention; `size` is (width, height). Raises ValueError for a distortion
    that folds the picture.
    """
    import cv2

    values = np.asarray(coefficients, np.float64) if len(coefficients) else None
    x, y = cv2.initUndistortRectifyMap(matrix, values, None, pinhole, size, cv2.CV_32FC1)
    if not (np.isfinite(x).all() and (np.diff(x, axis=1) > 0).all() and (np.diff(y, axis=0) > 0).all()):
        raise ValueError("expected a distortion that keeps the order of the pixels, got coefficients that fold them")
    return np.asarray(x), np.asarray(y)
