import numpy as np
import pytest
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from spinmeround.models.metrics import l2, psnr, ssim


@pytest.fixture(scope="module")
def pair():
    picture = astronaut()[100:164, 180:244]
    noise = np.random.default_rng(0).normal(0, 12, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8), picture


def test_known_values_of_l2_and_psnr():
    """Black against white is 1 and 0 dB; half of the range off everywhere is 0.25 and 6.02 dB."""
    black, white = np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 16, 16, 3), 255, np.uint8)
    assert l2(black, white).tolist() == [1.0, 1.0]
    assert psnr(black, white).tolist() == [0.0, 0.0]
    grey = np.full((16, 16, 3), 0.5)
    assert l2(grey, np.zeros_like(grey)) == pytest.approx(0.25)
    assert psnr(grey, np.zeros_like(grey)) == pytest.approx(20 * np.log10(2))


def test_equal_pictures_are_perfect(pair):
    """l2 is 0, PSNR infinite, SSIM 1."""
    assert l2(pair[1], pair[1]) == 0.0
    assert psnr(pair[1], pair[1]) == np.inf
    assert ssim(pair[1], pair[1]) == pytest.approx(1.0)


def test_psnr_is_scikit_image_s(pair):
    """The same value as the library's for one picture of bytes."""
    assert psnr(*pair) == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0], data_range=255))


def test_ssim_is_a_slow_reading_of_the_paper(pair):
    """At one pixel: Gaussian-weighted moments over 11 x 11 in the formula of Wang et al.; and the mean's range."""
    a, b = (picture[20:31, 30:41].astype(np.float64) / 255 for picture in pair)
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


@pytest.mark.parametrize("measure", [l2, psnr, ssim])
def test_a_batch_is_its_pictures(pair, measure):
    """Any leading axes give the values of the single pictures; bytes and floats agree; the order does not matter."""
    noisy, clean = pair
    batch_a = np.stack([[noisy, clean[::-1]], [noisy[:, ::-1], clean]])
    batch_b = np.stack([[clean, noisy], [clean, noisy]])
    values = measure(batch_a, batch_b)
    assert values.shape == (2, 2)
    for index in np.ndindex(2, 2):
        assert values[index] == pytest.approx(float(measure(batch_a[index], batch_b[index])))
    np.testing.assert_allclose(values, measure(batch_a / 255.0, batch_b / 255.0))
    np.testing.assert_allclose(values, measure(batch_b, batch_a))


@pytest.mark.parametrize("measure", [l2, psnr, ssim])
def test_pictures_in_another_range_are_refused(measure):
    """Floats below 0, above 1 or NaN would give wrong numbers silently."""
    fine = np.zeros((16, 16, 3))
    for value in (-0.5, 2.0, np.nan):
        with pytest.raises(ValueError, match="expected floats from 0 to 1"):
            measure(np.full((16, 16, 3), value), fine)


@pytest.mark.parametrize("measure", [l2, psnr, ssim])
def test_other_shapes_are_refused(measure):
    """Nothing is broadcast."""
    with pytest.raises(ValueError, match="expected two of one shape"):
        measure(np.zeros((16, 16, 3)), np.zeros((2, 16, 16, 3)))


def test_ssim_needs_room_for_its_window():
    """A picture smaller than 11 pixels is an error that says so."""
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(np.zeros((8, 16, 3)), np.zeros((8, 16, 3)))
