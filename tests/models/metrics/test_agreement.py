"""A table of ten pictures: our metrics, torchmetrics, and an independent numpy version agree."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import correlate1d
from torch import nn
from torchmetrics.functional.classification import binary_jaccard_index
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.functional.regression import mean_squared_error

from spinmeround.models.metrics import l2, mask_iou, psnr, ssim
from spinmeround.models.metrics.distribution import FeatureDistances

SIDE = 48


def table() -> tuple[np.ndarray, np.ndarray]:
    """Ten waves, and each with a change of its own: offset, noise, gradient, stripes, shift, contrast, ..."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    channels = np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))], axis=-1)
    truth = np.stack([128 + 80 * np.roll(channels, number, axis=-1) * (1 - number / 20) for number in range(10)])
    random = np.random.default_rng(0)
    changes = [
        truth[0] + 7,
        truth[1] + random.normal(0, 15, truth[1].shape),
        truth[2] + 30 * x[..., None],
        truth[3] + 20 * (np.arange(SIDE) % 2)[:, None],
        np.roll(truth[4], 3, axis=1),
        128 + 0.5 * (truth[5] - 128),
        truth[6][::-1],
        255 - truth[7],
        np.full_like(truth[8], truth[8].mean()),
        truth[9] + random.choice([-5, 5], truth[9].shape),
    ]
    return np.stack(changes).clip(0, 255).astype(np.uint8), truth.clip(0, 255).astype(np.uint8)


PREDICTED, TRUTH = table()


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    found = [
        torch.from_numpy(pictures).double().permute(0, 3, 1, 2).contiguous() / 255 for pictures in (PREDICTED, TRUTH)
    ]
    return found[0], found[1]


def numpy_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. (2004) over the whole picture without its border, channel by channel."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, weights, axis=0), weights, axis=1)[5:-5, 5:-5]

    a, b = a / 255, b / 255
    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * ma * mb + c1) * (2 * both + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def test_l2_psnr_and_ssim_of_ten_pictures() -> None:
    """Picture by picture, to six digits."""
    a, b = tensors()
    squared = ((PREDICTED.astype(float) - TRUTH) ** 2).mean(axis=(1, 2, 3)) / 255**2
    np.testing.assert_allclose(l2(PREDICTED, TRUTH), squared, rtol=1e-9)
    np.testing.assert_allclose(
        squared, [float(mean_squared_error(*each)) for each in zip(a, b, strict=True)], rtol=1e-6
    )
    decibels = psnr(PREDICTED, TRUTH)
    library = peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(decibels, library, rtol=1e-6)
    np.testing.assert_allclose(decibels, 10 * np.log10(1 / squared), rtol=1e-9)
    similar = ssim(PREDICTED, TRUTH)
    np.testing.assert_allclose(similar, [numpy_ssim(*each) for each in zip(PREDICTED, TRUTH, strict=True)], atol=1e-6)
    _, maps = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    inside = maps[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # torchmetrics' own mean has a border of reflected pixels
    np.testing.assert_allclose(similar, inside, atol=1e-6)
    assert similar.min() < 0.2 < 0.9 < similar.max()


def test_iou_of_ten_masks() -> None:
    """Of the bright parts of the pictures, as torchmetrics' Jaccard index and as sets of pixels."""
    a, b = (pictures[..., 0] > 128 for pictures in (PREDICTED, TRUTH))
    found = mask_iou(a, b)
    library = [
        float(binary_jaccard_index(*(torch.from_numpy(m.astype(int)) for m in each))) for each in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(found, library, rtol=1e-6)
    sets = [({*zip(*p.nonzero(), strict=True)}, {*zip(*q.nonzero(), strict=True)}) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, [len(p & q) / len(p | q) for p, q in sets])
    empty = np.zeros((4, 4), bool)
    assert mask_iou(empty, empty) == 1.0
    assert mask_iou(~empty, empty) == 0.0


class BlockMeans(nn.Module):
    """Four features of a picture: means of its quarters' reds."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(pictures[:, 0].float() / 255, SIDE // 2).flatten(1)


def features(pictures: np.ndarray) -> np.ndarray:
    half = SIDE // 2
    return pictures[..., 0].reshape(-1, 2, half, 2, half).mean(axis=(2, 4)).reshape(-1, 4) / 255


def test_fid_and_kid_of_ten_pictures() -> None:
    """Against the closed form of the Fréchet distance, and the unbiased estimate of the cubic kernel's MMD."""
    found = FeatureDistances(BlockMeans(), [TRUTH[:4], TRUTH[4:]])([PREDICTED])
    a, b = features(PREDICTED), features(TRUTH)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    frechet = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert found["fid"] == pytest.approx(frechet, rel=1e-4)

    def kernel(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return (p @ q.T / 4 + 1) ** 3

    off = ~np.eye(10, dtype=bool)
    squared = kernel(a, a)[off].mean() + kernel(b, b)[off].mean() - 2 * kernel(a, b).mean()
    assert found["kid"] == pytest.approx(squared, rel=1e-3)


def test_equal_sets_have_no_fid() -> None:
    """Zero for the same pictures; one picture is no set."""
    assert FeatureDistances(BlockMeans(), [TRUTH])([TRUTH])["fid"] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="two or more"):
        FeatureDistances(BlockMeans(), [TRUTH[:1]])
