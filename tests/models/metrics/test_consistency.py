import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.metrics.consistency import neighbour_consistency, warp
from tests.support.tiny import TinyGenerator

GRID = ViewGrid(azimuths=24, elevations_deg=(10.0,))


def painted(views: int = 24, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A tiny head whose colour is a function of the place on its surface alone, and its depths."""
    from spinmeround.models.geometry.cameras import pixel_rays

    generator, cameras = TinyGenerator(), GRID.cameras()[:views]
    head = generator.render(generator.sample(3), cameras, side)
    origins, directions = pixel_rays(cameras, side)
    along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
    points = origins + directions * (head.depth / along)[..., None]
    colour = 127 + 100 * np.sin(8 * points)
    return np.where(np.isfinite(colour), colour, 255).round().astype(np.uint8), head.depth


def test_a_true_surface_agrees_with_itself() -> None:
    """Colours that belong to the surface are seen alike by neighbours, up to resampling; most of the head is seen."""
    rgb, depth = painted()
    found = neighbour_consistency(rgb, depth, GRID.cameras())
    assert found.psnr > 33
    assert 0.7 < found.seen <= 1


@pytest.mark.parametrize("spoil", ["colour", "shift", "other"])
def test_what_disagrees_is_less_consistent(spoil: str) -> None:
    """Views that change colour at random, are shifted by two pixels one against the other, or show another place."""
    rgb, depth = painted()
    random = np.random.default_rng(0)
    spoilt = {
        "colour": lambda: np.clip(rgb + random.integers(-40, 40, (24, 1, 1, 3)), 0, 255).astype(np.uint8),
        "shift": lambda: np.stack([np.roll(v, 2 * (i % 2), axis=1) for i, v in enumerate(rgb)]),
        "other": lambda: np.roll(rgb, 7, axis=0)[random.permutation(24)],
    }[spoil]()
    cameras = GRID.cameras()
    assert neighbour_consistency(spoilt, depth, cameras).psnr < neighbour_consistency(rgb, depth, cameras).psnr - 6


def test_a_view_warped_to_itself_is_itself() -> None:
    """Where the head is, every pixel is seen and has its own colour."""
    rgb, depth = painted(1)
    warped, visible = warp(rgb[0], depth[[0, 0]], GRID.cameras()[[0, 0]])
    inner = np.isfinite(depth[0])
    assert visible[inner].mean() > 0.95
    np.testing.assert_allclose(warped[visible], rgb[0][visible], atol=0.1)


def test_one_jump_in_a_ring_is_the_weakest_pair() -> None:
    """A view that is 40 brighter than all others: its two pairs are off by 40, whose PSNR is known; the others agree as
    before. As far apart as the ring is long but one, the pairs are the same ones, seen from the other view."""
    rgb, depth = painted()
    brighter, cameras = rgb // 2, GRID.cameras()
    brighter[5] += 40
    found = neighbour_consistency(brighter, depth, cameras)
    assert np.argsort(found.pairs)[:2].tolist() in ([4, 5], [5, 4])
    assert found.pairs[[4, 5]] == pytest.approx(20 * np.log10(255 / 40), abs=0.2)
    assert found.psnr > found.pairs.min() + 8
    back = neighbour_consistency(brighter, depth, cameras, apart=23)
    assert back.psnr == pytest.approx(found.psnr, abs=0.3)
    assert neighbour_consistency(rgb, depth, cameras, apart=6).seen < neighbour_consistency(rgb, depth, cameras).seen


def test_nonsense_is_refused() -> None:
    """One view has no neighbour, and depths of nothing see nothing."""
    rgb, depth = painted(2)
    with pytest.raises(ValueError, match="expected 2 or more views"):
        neighbour_consistency(rgb[:1], depth[:1], GRID.cameras()[:1])
    with pytest.raises(ValueError, match="expected 3 or more views of a ring, got 2"):
        neighbour_consistency(rgb, depth, GRID.cameras()[:2], apart=2)
    with pytest.raises(ValueError, match="no pixel of a view is seen by its neighbour"):
        neighbour_consistency(rgb, np.full_like(depth, np.nan), GRID.cameras()[:2])
