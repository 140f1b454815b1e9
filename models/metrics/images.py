"""Image metrics against ground truth, one value per image.

Images are (..., height, width, 3), either bytes 0 to 255 or floats 0 to 1; all values are on the scale 0 to 1. Every
function raises ValueError if the two shapes differ or floats are outside 0 to 1.
"""

import numpy as np
from jaxtyping import Float, Float64, UInt8
from skimage.metrics import structural_similarity

Images = UInt8[np.ndarray, "... _ _ 3"] | Float[np.ndarray, "... _ _ 3"]

SSIM_WINDOW = 11
"""Side of the Gaussian window of Wang et al. (2004), in pixels; smaller images have no SSIM."""


def l2(predicted: Images, target: Images) -> Float64[np.ndarray, "*batch"]:
    """Mean squared error over pixels and channels; 0 for equal images."""
    predicted, target = unit_range(predicted, target)
    return np.asarray(np.mean((predicted - target) ** 2, axis=(-3, -2, -1)))


def psnr(predicted: Images, target: Images) -> Float64[np.ndarray, "*batch"]:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / l2); infinite for equal images."""
    with np.errstate(divide="ignore"):
        return np.asarray(-10.0 * np.log10(l2(predicted, target)))


def ssim(predicted: Images, target: Images) -> Float64[np.ndarray, "*batch"]:
    """Structural similarity of Wang et al. (2004): Gaussian window, sigma 1.5, mean over channels; 1 for equal images.

    Raises:
        ValueError: also for images smaller than the window.
    """
    predicted, target = unit_range(predicted, target)
    *batch, height, width, _ = predicted.shape
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"ssim: expected images of at least {SSIM_WINDOW} pixels per side, got {height} x {width}")
    pairs = zip(predicted.reshape(-1, height, width, 3), target.reshape(-1, height, width, 3), strict=True)
    return np.array([_ssim_of_one(*pair) for pair in pairs], np.float64).reshape(batch)


def unit_range(
    predicted: Images, target: Images
) -> tuple[Float64[np.ndarray, "*batch height width 3"], Float64[np.ndarray, "*batch height width 3"]]:
    """Both batches as floats 0 to 1.

    Raises:
        ValueError: if their shapes differ or floats are outside 0 to 1.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"images: expected equal shapes, got {predicted.shape} and {target.shape}")
    return _as_unit(predicted), _as_unit(target)


def _as_unit(images: Images) -> Float64[np.ndarray, "*batch height width 3"]:
    if images.dtype == np.uint8:
        return images.astype(np.float64) / 255.0
    if not ((images >= 0.0) & (images <= 1.0)).all():
        raise ValueError(
            f"images: expected floats from 0 to 1, got {np.min(images):.4g} to {np.max(images):.4g}; "
            "convert images in [-1, 1] by (x + 1) / 2"
        )
    return images.astype(np.float64)


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
