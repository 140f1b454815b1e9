import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid, pixel_rays
from spinmeround.models.metrics.consistency import near_pairs, neighbour_consistency, pair_consistency, warp
from tests.support.tiny import TinyGenerator

GRID = ViewGrid(azimuths=24, elevations_deg=(10.0,))


def painted(views: int = 24, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Images of a tiny head whose colour depends on the surface point alone, and their depths."""
    generator, cameras = TinyGenerator(), GRID.cameras()[:views]
    head = generator.render(generator.sample(3), cameras, side)
    origins, directions = pixel_rays(cameras, side)
    along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
    points = origins + directions * (head.depth / along)[..., None]
    colour = 127 + 100 * np.sin(8 * points)
    return np.where(np.isfinite(colour), colour, 255).round().astype(np.uint8), head.depth


def test_a_coloured_surface_is_consistent() -> None:
    """Neighbouring views of a coloured surface agree up to resampling, over most of the head."""
    rgb, depth = painted()
    found = neighbour_consistency(rgb, depth, GRID.cameras())
    assert found.psnr > 33
    assert 0.7 < found.visible <= 1


@pytest.mark.parametrize("change", ["colour", "shift", "other"])
def test_disagreeing_views_are_less_consistent(change: str) -> None:
    """Random colour offsets, shifts of two pixels and views from other cameras each lower PSNR by more than 6 dB."""
    rgb, depth = painted()
    random = np.random.default_rng(0)
    changed = {
        "colour": lambda: np.clip(rgb + random.integers(-40, 40, (24, 1, 1, 3)), 0, 255).astype(np.uint8),
        "shift": lambda: np.stack([np.roll(v, 2 * (i % 2), axis=1) for i, v in enumerate(rgb)]),
        "other": lambda: np.roll(rgb, 7, axis=0)[random.permutation(24)],
    }[change]()
    cameras = GRID.cameras()
    assert neighbour_consistency(changed, depth, cameras).psnr < neighbour_consistency(rgb, depth, cameras).psnr - 6


def test_warping_a_view_to_itself_changes_nothing() -> None:
    """Pixels of the head are visible and keep their colour."""
    rgb, depth = painted(1)
    warped, visible = warp(rgb[0], depth[[0, 0]], GRID.cameras()[[0, 0]])
    inner = np.isfinite(depth[0])
    assert visible[inner].mean() > 0.95
    np.testing.assert_allclose(warped[visible], rgb[0][visible], atol=0.1)


def test_one_brighter_view_gives_the_least_consistent_pairs() -> None:
    """One view is brighter by 40: its two pairs have the PSNR of that offset, all others are unchanged. With an offset
    of the ring length minus one, the pairs are the same with the views swapped."""
    rgb, depth = painted()
    brighter, cameras = rgb // 2, GRID.cameras()
    brighter[5] += 40
    found = neighbour_consistency(brighter, depth, cameras)
    assert np.argsort(found.pairs)[:2].tolist() in ([4, 5], [5, 4])
    assert found.pairs[[4, 5]] == pytest.approx(20 * np.log10(255 / 40), abs=0.2)
    assert found.psnr > found.pairs.min() + 8
    swapped = neighbour_consistency(brighter, depth, cameras, offset=23)
    assert swapped.psnr == pytest.approx(found.psnr, abs=0.3)
    assert (
        neighbour_consistency(rgb, depth, cameras, offset=6).visible
        < neighbour_consistency(rgb, depth, cameras).visible
    )


def test_rings_without_neighbours_are_refused() -> None:
    """Too few views, and depths without a head, raise an error."""
    rgb, depth = painted(2)
    with pytest.raises(ValueError, match="expected 2 or more views"):
        neighbour_consistency(rgb[:1], depth[:1], GRID.cameras()[:1])
    with pytest.raises(ValueError, match="expected 3 or more views of a ring, got 2"):
        neighbour_consistency(rgb, depth, GRID.cameras()[:2], offset=2)
    with pytest.raises(ValueError, match="no pixel is visible in a neighbouring view"):
        neighbour_consistency(rgb, np.full_like(depth, np.nan), GRID.cameras()[:2])


def test_pairs_of_any_views_are_those_of_near_cameras() -> None:
    """Each pair up to a limit, both ways; the order of the views does not matter, and of the nearest pairs the value
    is between those of both directions of a ring."""
    rgb, depth = painted()
    cameras = GRID.cameras()
    pairs = near_pairs(cameras, 31.0)
    assert sorted(pairs) == sorted((view, (view + offset) % 24) for view in range(24) for offset in (-2, -1, 1, 2))
    order = np.random.default_rng(0).permutation(24)
    shuffled = pair_consistency(rgb[order], depth[order], cameras[order.tolist()])
    assert shuffled.psnr == pytest.approx(pair_consistency(rgb, depth, cameras).psnr)
    near = pair_consistency(rgb, depth, cameras, most_deg=16.0)
    both = [neighbour_consistency(rgb, depth, cameras, offset=offset).psnr for offset in (1, 23)]
    assert min(both) <= near.psnr <= max(both)
    with pytest.raises(ValueError, match="no pixel is visible"):
        pair_consistency(rgb[[0, 12]], depth[[0, 12]], cameras[[0, 12]])
