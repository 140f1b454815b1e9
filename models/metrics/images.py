"""Pixel measures of pictures against the truth, one value a picture.

Pictures are (..., height, width, 3), either bytes 0 to 255 or floats 0 to 1; all values are on the scale 0 to 1.
Every function raises ValueError where the two differ in shape or floats leave that range.
"""

import numpy as np
from jaxtyping import Float, Float64, UInt8
from skimage.metrics import structural_similarity

Pictures = UInt8[np.ndarray, "... _ _ 3"] | Float[np.ndarray, "... _ _ 3"]

SSIM_WINDOW = 11
"""Side of the Gaussian window of Wang et al. (2004), in pixels; smaller pictures have no SSIM."""


def l2(predicted: Pictures, target: Pictures) -> Float64[np.ndarray, "*batch"]:
    """Mean squared error over pixels and channels; 0 is equal."""
    predicted, target = unit_range(predicted, target)
    return np.asarray(np.mean((predicted - target) ** 2, axis=(-3, -2, -1)))


def psnr(predicted: Pictures, target: Pictures) -> Float64[np.ndarray, "*batch"]:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / l2); infinite where the pictures are equal."""
    with np.errstate(divide="ignore"):
        return np.asarray(-10.0 * np.log10(l2(predicted, target)))


def ssim(predicted: Pictures, target: Pictures) -> Float64[np.ndarray, "*batch"]:
    """Structural similarity of Wang et al. (2004): Gaussian window, sigma 1.5, mean over the channels; 1 is equal.

    Raises:
        ValueError: also where a picture is smaller than the window.
    """
    predicted, target = unit_range(predicted, target)
    *batch, height, width, _ = predicted.shape
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"ssim: expected pictures of at least {SSIM_WINDOW} pixels a side, got {height} x {width}")
    pairs = zip(predicted.reshape(-1, height, width, 3), target.reshape(-1, height, width, 3), strict=True)
    return np.array([_ssim_of_one(*pair) for pair in pairs], np.float64).reshape(batch)


def unit_range(
    predicted: Pictures, target: Pictures
) -> tuple[Float64[np.ndarray, "*batch height width 3"], Float64[np.ndarray, "*batch height width 3"]]:
    """Both pictures as floats 0 to 1.

    Raises:
        ValueError: if their shapes differ or floats leave 0 to 1.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"pictures: expected two of one shape, got {predicted.shape} and {target.shape}")
    return _as_unit(predicted), _as_unit(target)


def _as_unit(pictures: Pictures) -> Float64[np.ndarray, "*batch height width 3"]:
    if pictures.dtype == np.uint8:
        return pictures.astype(np.float64) / 255.0
    if not ((pictures >= 0.0) & (pictures <= 1.0)).all():
        raise ValueError(
            f"pictures: expected floats from 0 to 1, got {np.min(pictures):.4g} to {np.max(pictures):.4g}; "
            "pictures in [-1, 1] go through (x + 1) / 2 first"
        )
    return pictures.astype(np.float64)


def _ssim_of_one(predicted: Float64[np.ndarray, "h w 3"], target: Float64[np.ndarray, "h w 3"]) -> float:
    similarity: float = structural_similarity(  # type: ignore[no-untyped-call]
        predicted,
        target,
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return similarity
