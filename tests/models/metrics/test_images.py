import numpy as np
import pytest
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from spinmeround.models.metrics import l2, psnr, ssim

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def pair():
    image = astronaut()[100:164, 180:244]
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), image


def test_known_values_of_l2_and_psnr():
    """Black and white give 1 and 0 dB; an offset of half the range gives 0.25 and 6.02 dB."""
    black, white = np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 16, 16, 3), 255, np.uint8)
    assert l2(black, white).tolist() == [1.0, 1.0]
    assert psnr(black, white).tolist() == [0.0, 0.0]
    grey = np.full((16, 16, 3), 0.5)
    assert l2(grey, np.zeros_like(grey)) == pytest.approx(0.25)
    assert psnr(grey, np.zeros_like(grey)) == pytest.approx(20 * np.log10(2))


def test_equal_images_have_the_best_values(pair):
    """l2 is 0, PSNR infinite, SSIM 1."""
    assert l2(pair[1], pair[1]) == 0.0
    assert psnr(pair[1], pair[1]) == np.inf
    assert ssim(pair[1], pair[1]) == pytest.approx(1.0)


def test_psnr_equals_scikit_image(pair):
    """The same value as the library's for one image of bytes."""
    assert psnr(*pair) == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0], data_range=255))


def test_ssim_equals_a_slow_reference(pair):
    """At one pixel: Wang et al.'s formula with Gaussian-weighted moments over 11 x 11 pixels."""
    a, b = (image[20:31, 30:41].astype(np.float64) / 255 for image in pair)
    offset = np.arange(-5, 6)
    weight = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))[..., None]
    weight /= weight.sum()
    mean_a, mean_b = (weight * a).sum((0, 1)), (weight * b).sum((0, 1))
    var_a, var_b = (weight * (a - mean_a) ** 2).sum((0, 1)), (weight * (b - mean_b) ** 2).sum((0, 1))
    covariance = (weight * (a - mean_a) * (b - mean_b)).sum((0, 1))
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert ssim(pair[0][20:31, 30:41], pair[1][20:31, 30:41]) == pytest.approx(value.mean(), abs=1e-9)
    assert 0.3 < ssim(*pair) < 0.95


@pytest.mark.parametrize("metric", [l2, psnr, ssim])
def test_a_batch_gives_the_values_of_its_images(pair, metric):
    """For any leading axes; bytes and floats give equal values; the metrics are symmetric."""
    noisy, clean = pair
    batch_a = np.stack([[noisy, clean[::-1]], [noisy[:, ::-1], clean]])
    batch_b = np.stack([[clean, noisy], [clean, noisy]])
    values = metric(batch_a, batch_b)
    assert values.shape == (2, 2)
    for index in np.ndindex(2, 2):
        assert values[index] == pytest.approx(float(metric(batch_a[index], batch_b[index])))
    np.testing.assert_allclose(values, metric(batch_a / 255.0, batch_b / 255.0))
    np.testing.assert_allclose(values, metric(batch_b, batch_a))


@pytest.mark.parametrize("metric", [l2, psnr, ssim])
def test_images_in_another_range_are_refused(metric):
    """Floats below 0 or above 1, and NaN, raise an error."""
    fine = np.zeros((16, 16, 3))
    for value in (-0.5, 2.0, np.nan):
        with pytest.raises(ValueError, match="expected floats from 0 to 1"):
            metric(np.full((16, 16, 3), value), fine)


@pytest.mark.parametrize("metric", [l2, psnr, ssim])
def test_different_shapes_are_refused(metric):
    """The metrics do not broadcast."""
    with pytest.raises(ValueError, match="expected equal shapes"):
        metric(np.zeros((16, 16, 3)), np.zeros((2, 16, 16, 3)))


def test_ssim_refuses_images_smaller_than_its_window():
    """The error names the smallest side, 11 pixels."""
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(np.zeros((8, 16, 3)), np.zeros((8, 16, 3)))
