import base64
import io

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.tasks.pictures.webp import cut_out, data_uri, nearest_view, resize, row_uri, sprite_sheet


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))))


@given(arrays.arrays(np.uint8, (4, 4, 3)), arrays.arrays(np.uint8, (4, 4)))
def test_cut_out_inverts_compositing_on_white(foreground: np.ndarray, mask: np.ndarray):
    """Compositing the cut-out on white again gives the picture within rounding."""
    alpha = mask[..., None] / 255
    on_white = np.rint(alpha * foreground + (1 - alpha) * 255).astype(np.uint8)
    cut = cut_out(on_white, mask)
    again = cut[..., 3:] / 255 * cut[..., :3] + (1 - cut[..., 3:] / 255) * 255
    np.testing.assert_allclose(again, on_white, atol=1.0)
    np.testing.assert_array_equal(cut[..., 3], mask)


def test_cut_out_keeps_every_colour_under_every_alpha():
    """Compositing again with float64 gives exactly the same bytes for each alpha above 0."""
    alpha = np.repeat(np.arange(1, 256, dtype=np.uint8), 256).reshape(1, 255, 256)
    colour = np.tile(np.arange(256), 255).reshape(1, 255, 256)
    on_white = np.round(colour * (alpha / 255) + 255 * (1 - alpha / 255)).astype(np.uint8)
    cut = cut_out(np.repeat(on_white[..., None], 3, axis=-1), alpha)
    again = cut[..., 0] * (cut[..., 3] / 255) + 255 * (1 - cut[..., 3] / 255)
    np.testing.assert_array_equal(np.round(again), on_white)


def test_alpha_survives_the_data_uri_exactly():
    """Colours are lossy, alpha is lossless, so the viewer's mask equals the dataset's."""
    mask = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    picture = np.concatenate([np.full((16, 16, 3), 90, np.uint8), mask[..., None]], axis=-1)
    np.testing.assert_array_equal(decoded(data_uri(picture, quality=50))[..., 3], mask)


@pytest.mark.parametrize("views", [1, 5, 9, 125])
def test_sprite_sheet_places_views_row_by_row(views: int):
    """View v is in row v // columns and column v % columns."""
    colours = np.linspace(20, 230, views).astype(np.uint8)
    pictures = np.broadcast_to(colours[:, None, None, None], (views, 16, 16, 3)).copy()
    sheet = sprite_sheet(pictures, quality=95)
    shown = decoded(sheet.uri)
    for view in range(views):
        row, column = divmod(view, sheet.columns)
        cell = shown[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16, :3]
        assert abs(cell[4:12, 4:12].mean() - colours[view]) < 4


def test_sprite_sheet_too_large_for_webp_is_refused():
    """The error names the limit and the parameter to lower."""
    with pytest.raises(ValueError, match=r"16383.*viewer_resolution"):
        sprite_sheet(np.zeros((65, 2000, 1, 3), np.uint8), quality=50)


def test_row_puts_pictures_side_by_side():
    """Two pictures become one of twice the width, in the same order."""
    row = decoded(row_uri(np.stack([np.full((16, 16, 3), v, np.uint8) for v in (40, 200)]), quality=95))
    assert row.shape == (16, 32, 3)
    assert row[:, :8].mean() < 60 < 180 < row[:, -8:].mean()


def test_resize_averages_areas_and_keeps_small_pictures():
    """Halving takes the mean of each block of four pixels; a picture that fits is unchanged."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    means = pictures.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(resize(pictures, 4), means, atol=1.0)
    np.testing.assert_array_equal(resize(pictures, 8), pictures)


@pytest.mark.parametrize(("at", "view"), [((0, 0), 50), ((360, 1), 50), ((14.4, 15), 76), ((-14.4, -30), 24)])
def test_nearest_view_on_the_default_grid(at: tuple[float, float], view: int):
    """Azimuths wrap around; the view index is elevation-major."""
    cameras = ViewGrid().cameras()
    assert nearest_view(cameras.azimuth_deg, cameras.elevation_deg, at) == view
