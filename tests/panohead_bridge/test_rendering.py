import numpy as np
import pytest
import torch
from einops import reduce

from spinmeround.models.geometry.cameras import orbit, pixel_rays, project
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.tracing import in_chunks, narrow_band
from spinmeround.panohead_bridge.protocol import FIVE_LANDMARKS

GOLDEN_PLACES = np.array([[0.0, 0.05, 0.2], [0.15, 0.1, 0.0], [0.0, 0.26, 0.0], [0.05, -0.2, 0.1]], np.float32)
GOLDEN = {
    0: (
        [0.0237, 0.0100, 0.0583, -0.0020],
        [[200.6, 183.1, 172.9], [130.7, 134.6, 149.5], [215.1, 174.1, 157.5], [148.8, 142.2, 153.2]],
    ),
    7: (
        [0.0184, 0.0136, 0.0577, -0.0116],
        [[219.4, 179.1, 132.2], [214.9, 181.6, 136.4], [174.0, 126.1, 100.8], [161.6, 131.6, 106.2]],
    ),
}
"""Signed distances at GOLDEN_PLACES, and mean colours of the middle four of the picture's 16 tiles, by seed."""


def test_depth_lies_on_the_surface(generator, identity, cameras, rendering):
    """Points unprojected from pixel centres with their depth have a signed distance near zero."""
    origins, directions = pixel_rays(cameras, 48)
    along = np.einsum("vhwc,vc->vhw", directions, cameras.cam2world[:, :3, 2])
    points = (origins + directions * (rendering.depth / along)[..., None])[np.isfinite(rendering.depth)]
    distance = np.abs(generator.signed_distance(identity, points))
    assert np.median(distance) < 5e-5
    assert np.quantile(distance, 0.99) < 1e-3


def test_coarse_and_fine_grids_agree(generator, identity):
    """A picture from a coarse grid matches a downscaled picture from a fine grid."""
    view = orbit([20.0], [10.0])
    small, large = generator.render(identity, view, 64), generator.render(identity, view, 128)
    for field in ("rgb", "mask"):
        coarse, fine = getattr(small, field).astype(float), getattr(large, field).astype(float)
        scaled = reduce(fine, "v (h a) (w b) ... -> v h w ...", "mean", a=2, b=2)
        assert np.abs(coarse - scaled).mean() < 1.5


def test_narrow_band_is_exact_at_the_surface(generator, identity):
    """Compared with a dense evaluation, signs agree everywhere and values agree near the surface."""
    distance, cells = generator._heads.scene(identity).distance, 64
    axis = ((np.arange(cells) + 0.5) / cells - 0.5).astype(np.float32)
    everywhere = in_chunks(distance, np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3))
    everywhere, band = everywhere.reshape(cells, cells, cells), narrow_band(distance, cells)
    np.testing.assert_array_equal(everywhere < 0.0, band < 0.0)
    close = np.abs(everywhere) < 1.0 / cells
    np.testing.assert_allclose(band[close], everywhere[close], atol=1e-6)


def test_mask_covers_the_projected_solid(generator, identity, cameras, rendering, lattice):
    """Points well inside the head project onto the mask in every view."""
    inside = lattice[generator.signed_distance(identity, lattice) < -0.01]
    pixels, _ = project(cameras, inside)
    for view in range(len(cameras)):
        column, row = np.floor(pixels[view] * 48).astype(int).T
        shown = (column >= 0) & (column < 48) & (row >= 0) & (row < 48)
        assert (rendering.mask[view][row[shown], column[shown]] == 255).mean() > 0.99
        assert (rendering.mask[view][row[shown], column[shown]] > 0).all()


def test_background_is_white_and_edges_are_soft(rendering):
    """Pixels without hits are white and have no depth, fully covered ones have depth, and edges are partial."""
    assert (rendering.rgb[rendering.mask == 0] == 255).all()
    assert np.isfinite(rendering.depth[rendering.mask == 255]).all()
    assert np.isnan(rendering.depth[rendering.mask == 0]).all()
    assert ((rendering.mask > 0) & (rendering.mask < 255)).any()


def test_head_fills_the_frame_without_touching_its_borders(rendering):
    """The head touches neither the left, right nor upper border and fills most of the height in the frontal view."""
    mask = rendering.mask > 0
    assert not mask[:, 0].any()
    assert not mask[:, :40, 0].any()
    assert not mask[:, :40, -1].any()
    assert mask[0].any(axis=1).mean() > 0.75


def test_pictures_do_not_depend_on_batch_and_threads(identity, cameras, rendering):
    """A subset of cameras, two threads and a new generator give bit-identical pictures."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = ProceduralGenerator(ProceduralOptions(defect_share=0.0)).render(identity, cameras[[3, 1]], 48)
    finally:
        torch.set_num_threads(threads)
    for field in ("rgb", "mask", "depth"):
        np.testing.assert_array_equal(getattr(again, field), getattr(rendering, field)[[3, 1]])


def test_front_and_back_differ(rendering):
    """The back view differs from the front view by far more than noise."""
    front, back = rendering.rgb[0].astype(float), rendering.rgb[2, :, ::-1].astype(float)
    solid = (rendering.mask[0] == 255) & (rendering.mask[2, :, ::-1] == 255)
    assert np.abs(front - back)[solid].mean() > 15


def test_landmarks_are_on_the_surface_and_in_order(generator, identity):
    """The five landmarks lie on the surface and appear in anatomical order in the frontal view."""
    landmarks = generator.landmarks(identity)
    assert np.abs(generator.signed_distance(identity, landmarks)).max() < 1e-4
    pixels, _ = project(orbit([0.0], [0.0]), landmarks)
    place = dict(zip(FIVE_LANDMARKS, pixels[0], strict=True))
    assert place["left eye"][0] < place["nose tip"][0] < place["right eye"][0]
    assert place["left mouth corner"][0] < place["right mouth corner"][0]
    assert place["left eye"][1] < place["nose tip"][1] < place["left mouth corner"][1]
    assert landmarks[2, 2] == landmarks[:, 2].max()


@pytest.fixture(scope="module")
def portraits(generator) -> dict[int, np.ndarray]:
    view = orbit([20.0], [10.0])
    return {seed: generator.render(generator.sample(seed), view, 24).rgb[0].astype(float) for seed in (7, 0)}


def test_seeds_give_different_heads(portraits):
    """Pictures of different seeds differ clearly on average."""
    assert np.abs(portraits[0] - portraits[7]).mean() > 8


@pytest.mark.parametrize("seed", [0, 7])
def test_heads_match_the_golden_values(generator, portraits, seed):
    """Known distances and colours. A change of heads requires a new VERSION and new values here."""
    identity = generator.sample(seed)
    colours = portraits[seed].reshape(4, 6, 4, 6, 3).mean(axis=(1, 3))[1:3, 1:3].reshape(4, 3)
    distances, expected = GOLDEN[seed]
    np.testing.assert_allclose(generator.signed_distance(identity, GOLDEN_PLACES), distances, atol=2e-4)
    np.testing.assert_allclose(colours, expected, atol=1.5)
    assert generator.fingerprint.startswith("procedural-6-")
