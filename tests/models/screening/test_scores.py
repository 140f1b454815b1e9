"""Each screening score on shapes and images with a known value."""

import numpy as np
import pytest
from scipy import ndimage

from spinmeround.models.geometry.cameras import ViewGrid, pixel_rays
from spinmeround.models.screening import image_scores as images
from spinmeround.models.screening import shape_scores as shapes
from spinmeround.models.screening import symmetry_scores as halves
from spinmeround.models.screening.evidence import Evidence, refined_density_grid
from spinmeround.models.screening.measure import all_scores, score_functions
from spinmeround.models.screening.scores import SCORES
from spinmeround.storage.records import Rendering

CELLS, SIDE = 96, 48
RING = ViewGrid(azimuths=8, elevations_deg=(0.0,)).cameras()
AXES = (0.18, 0.24, 0.22)
LEVEL = 10.0

NODES = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, CELLS + 1)] * 3, indexing="ij"), axis=-1)


def ellipsoid(axes=AXES, centre=(0.0, 0.0, 0.0)):
    """Which nodes of the cube's grid, [x, y, z], are inside an ellipsoid."""
    return (((NODES - np.asarray(centre)) / np.asarray(axes)) ** 2).sum(axis=-1) < 1


def ball(centre, radius):
    return ellipsoid((radius,) * 3, centre)


def drawn(paint, axes=AXES, cameras=RING):
    """Previews of an ellipsoid with surface colours `paint(points)`, 0 to 255."""
    origins, directions = pixel_rays(cameras, SIDE)
    o, d = origins / np.float32(axes), directions / np.float32(axes)
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0
    root = b * b - a * c
    distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.nan)
    points = origins + distance[..., None] * directions
    rgb = np.where(np.isfinite(distance)[..., None], paint(np.nan_to_num(points)), 255)
    along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
    return Rendering(
        rgb=rgb.round().astype(np.uint8),
        mask=np.where(np.isfinite(distance), 255, 0).astype(np.uint8),
        depth=(distance * along).astype(np.float32),
    )


def plain(points):
    return np.full(points.shape, 120.0)


PLAIN = drawn(plain)


LANDMARKS = np.array(
    [(-0.06, 0.0, 0.15), (0.06, 0.0, 0.15), (0.0, -0.07, 0.2), (-0.04, -0.1, 0.15), (0.04, -0.1, 0.15)], np.float32
)
"""Landmarks of a head whose frame is the world's."""


def smooth(inside):
    """A density that rises over some nodes through a surface near that of `inside`, as generators have it."""
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return np.clip(LEVEL + 2.0 * ndimage.gaussian_filter(distance, 0.7), 0.0, 2 * LEVEL).astype(np.float32)


def evidence(inside=None, previews=PLAIN, box_warp=1.0, cameras=RING, landmarks=LANDMARKS, kept=None):
    inside = ellipsoid() if inside is None else inside
    density = np.where(inside, 2 * LEVEL, 0.0).astype(np.float32) if inside.dtype == bool else inside
    return Evidence(
        density=density,
        level=LEVEL,
        box_warp=box_warp,
        previews=previews,
        cameras=cameras,
        kept=kept,
        landmarks=None if landmarks is None else landmarks * np.float32(box_warp),
    )


def test_scores_of_a_plain_head():
    """An ellipsoid has no defects, crown and back at the ends of its axes, and finite scores."""
    scores = all_scores(evidence(smooth(ellipsoid())))
    for name in ("stray_volume", "cavity_volume", "clipped_volume", "asymmetry", "one_sided_dents"):
        assert scores[name] == 0.0, name
    assert scores["one_sided_bumps"] < 1 / CELLS
    assert scores["face_asymmetry"] < 0.002
    assert scores["crown_height"] == pytest.approx(0.24, abs=1.1 / CELLS)
    assert scores["back_depth"] == pytest.approx(0.22, abs=1.1 / CELLS)
    assert scores["depth_to_width"] == pytest.approx(0.22 / 0.18, rel=0.1)
    assert scores["recognition_at_back"] is None
    assert all(value is None or np.isfinite(value) for value in scores.values())


def test_empty_volume_is_stray():
    """For an empty grid all volume is stray, and all scores are defined."""
    scores = all_scores(evidence(np.zeros((CELLS + 1,) * 3, bool)))
    assert scores["stray_volume"] == 1.0
    assert scores["crown_height"] == -0.5


def test_stray_volume_is_the_share_of_the_smaller_piece():
    """The share of a separate ball in the total volume."""
    piece = ball((0.4, 0.4, 0.4), 0.05)
    expected = piece.sum() / (ellipsoid().sum() + piece.sum())
    assert shapes.stray_volume(evidence(ellipsoid() | piece)) == pytest.approx(expected)


def test_cavity_volume_is_the_share_of_the_cavity():
    """A cavity with half the axes has an eighth of the volume; one that is open to the outside does not count."""
    shell = ellipsoid() & ~ellipsoid(np.asarray(AXES) / 2)
    assert shapes.cavity_volume(evidence(shell)) == pytest.approx(1 / 7, rel=0.05)
    middle = CELLS // 2
    shell[middle, middle:, middle] = False
    assert shapes.cavity_volume(evidence(shell)) == 0.0


def test_clipped_volume_is_measured_at_the_trim():
    """A head that the trim cuts is clipped, though it is far from the cube's faces; one inside the trim is not."""
    kept = (slice(12, 85), slice(12, 82), slice(12, 85))
    trimmed = np.zeros((CELLS + 1,) * 3, bool)
    trimmed[kept] = ellipsoid(centre=(0.0, 0.2, 0.0))[kept]
    assert shapes.clipped_volume(evidence(trimmed)) == 0.0
    assert shapes.clipped_volume(evidence(trimmed, kept=kept)) == pytest.approx(
        trimmed[:, 81].sum() / 73**2 / 5, rel=0.2
    )
    assert shapes.clipped_volume(evidence(ellipsoid(), kept=kept)) == 0.0


def test_clipped_volume_is_the_share_of_the_faces():
    """A slab at the top fills that face and part of the four sides; one at the bottom only part of the sides."""
    top, bottom = np.zeros((2, *(CELLS + 1,) * 3), bool)
    top[:, -4:] = True
    bottom[:, :4] = True
    assert shapes.clipped_volume(evidence(top)) == pytest.approx((1 + 4 * 3 / (CELLS - 1)) / 5)
    assert shapes.clipped_volume(evidence(bottom)) == pytest.approx(4 * 3 / (CELLS - 1) / 5)


@pytest.mark.parametrize("depth", [0.03, 0.04])
def test_only_one_sided_dents_count(depth):
    """A dent in one temple counts by its volume; a mirrored pair of dents does not count."""
    place = np.array([AXES[0], 0.0, 0.0])
    dented = ellipsoid() & ~ball(place, depth)
    both = dented & ~ball(-place, depth)
    assert shapes.one_sided_dents(evidence(smooth(dented))) > 0.03
    assert shapes.one_sided_dents(evidence(smooth(dented))) == pytest.approx(
        shapes.one_sided_dents(evidence(smooth(dented)[::-1])), rel=0.2
    )
    assert shapes.one_sided_dents(evidence(smooth(both))) == 0.0


def test_crown_dents_have_the_known_depth():
    """The depth of a dent in the crown is its radius minus what the ball reaches; a dent in the chin does not count."""
    crown = ellipsoid() & ~ball((0.0, AXES[1], 0.0), 0.03)
    chin = ellipsoid() & ~ball((0.0, -AXES[1], 0.0), 0.03)
    sinks = 0.08 - np.sqrt(0.08**2 - 0.03**2) + 0.03**2 / (2 * AXES[0] ** 2 / AXES[1])
    assert shapes.crown_dents(evidence(smooth(crown))) == pytest.approx(0.03 - sinks, abs=1.0 / CELLS)
    assert shapes.crown_dents(evidence(smooth(chin))) == 0.0


def test_only_one_sided_bumps_count():
    """A thin bar on one ear has the height of its length; a mirrored pair of bars does not count."""
    bar = np.zeros_like(ellipsoid())
    middle = CELLS // 2
    bar[middle:, middle : middle + 2, middle : middle + 2] = True
    bar[int((0.30 + 0.5) * CELLS) :] = False
    assert shapes.one_sided_bumps(evidence(ellipsoid() | bar)) == pytest.approx(0.12, abs=2.0 / CELLS)
    assert shapes.one_sided_bumps(evidence(ellipsoid() | bar | bar[::-1])) < 0.5 / CELLS


def test_a_bun_off_centre_is_no_asymmetry_of_the_face():
    """A ball on one side of the back adds its volume to the asymmetry, and nothing to that of the face."""
    bun = ellipsoid() | ball((0.08, 0.1, -0.22), 0.05)
    assert halves.asymmetry(evidence(bun)) > 0.005
    assert halves.face_asymmetry(evidence(bun)) < 0.002


def test_a_swollen_cheek_is_an_asymmetry_of_the_face():
    """Depth that lies 0.02 further in front on one half of the face is far from the mirrored surface."""
    cheek = drawn(plain)
    cheek.depth[[0, 1, 7]] -= 0.02 * (np.indices((8, SIDE, SIDE))[2] > 24)[[0, 1, 7]].astype(np.float32)
    assert halves.face_asymmetry(evidence()) < 0.002
    assert halves.face_asymmetry(evidence(previews=cheek)) > 0.008


def test_silhouette_holes_and_spikes():
    """A hole of 4 by 4 pixels counts by its area, a line of one pixel by its length."""
    mask = PLAIN.mask.copy()
    area = int((mask[2] > 0).sum())
    mask[2, 22:26, 22:26] = 0
    holed = Rendering(rgb=PLAIN.rgb, mask=mask, depth=PLAIN.depth)
    assert images.silhouette_holes(evidence(previews=holed)) == pytest.approx(16 / area)
    mask = PLAIN.mask.copy()
    mask[3, 24, 40:47] = 255
    spiked = Rendering(rgb=PLAIN.rgb, mask=mask, depth=PLAIN.depth)
    before = images.silhouette_spikes(evidence())
    assert images.silhouette_spikes(evidence(previews=spiked)) > before + 4 / area


def test_silhouette_pieces_count_by_area():
    """A separate block of 3 by 3 pixels counts as its share of that view's silhouette."""
    mask = PLAIN.mask.copy()
    area = int((mask[5] > 0).sum())
    mask[5, 1:4, 1:4] = 255
    apart = Rendering(rgb=PLAIN.rgb, mask=mask, depth=PLAIN.depth)
    assert images.silhouette_pieces(evidence()) == 0.0
    assert images.silhouette_pieces(evidence(previews=apart)) == pytest.approx(9 / (area + 9))


def test_only_one_sided_colours_count():
    """One red temple counts; two red temples and light from one side do not."""

    def patched(sides):
        def paint(points):
            red = np.zeros(points.shape[:-1], bool)
            for side in sides:
                red |= np.linalg.norm(points - np.array([side * AXES[0], 0.0, 0.0]), axis=-1) < 0.08
            return np.where(red[..., None], (180.0, 90.0, 90.0), 120.0) * np.ones(points.shape)

        return halves.one_sided_colour(evidence(previews=drawn(paint)))

    def lit(points):
        return (120.0 + 300.0 * points[..., :1]) * np.ones(3)

    assert patched([1]) > 0.01
    assert patched([-1]) == pytest.approx(patched([1]), rel=0.05)
    assert patched([-1, 1]) == 0.0
    assert halves.one_sided_colour(evidence(previews=drawn(lit))) < 1e-3


@pytest.mark.parametrize(("angle", "offset"), [(0.0, 0.0), (60.0, 0.03), (150.0, -0.04)])
@pytest.mark.parametrize("jump", [0.15, 0.4])
def test_colour_seam_is_the_log_ratio_of_the_jump(angle, offset, jump):
    """A jump of brightness across an upright plane scores the logarithm of its ratio."""
    a = np.radians(angle)

    def seamed(points):
        beyond = points[..., 0] * np.cos(a) + points[..., 2] * np.sin(a) > offset
        return np.where(beyond, np.exp(jump), 1.0)[..., None] * np.full(points.shape, 100.0)

    expected = np.log((100.0 * np.exp(jump) + halves.DARK) / (100.0 + halves.DARK))
    assert images.colour_seam(evidence(previews=drawn(seamed))) == pytest.approx(expected, rel=0.1)


def test_scores_do_not_depend_on_the_unit_of_length():
    """Head, cameras and cube scaled by 2 have the same scores."""

    def seamed(points):
        return np.where(points[..., 0] > 0.02, 1.3, 1.0)[..., None] * np.full(points.shape, 100.0)

    large = ViewGrid(azimuths=8, elevations_deg=(0.0,), radius=5.4).cameras()
    twice = drawn(lambda points: seamed(points / 2), axes=[2 * axis for axis in AXES], cameras=large)
    found, expected = (
        {name: value for name, value in all_scores(each).items() if value is not None}
        for each in (
            evidence(previews=twice, box_warp=2.0, cameras=large),
            evidence(previews=drawn(seamed)),
        )
    )
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_smooth_shading_is_no_seam():
    """Smooth shading from one side and uniform colour have no seam."""

    def shaded(points):
        return (120.0 + 300.0 * points[..., :1]) * np.ones(3)

    assert images.colour_seam(evidence(previews=drawn(shaded))) < 0.1
    assert images.colour_seam(evidence()) == 0.0


def features(points):
    """Dark eyes and a mouth on the front half."""
    spots = [(-0.06, 0.05), (0.06, 0.05), (0.0, -0.08)]
    dark = np.zeros(points.shape[:-1])
    for x, y in spots:
        dark += np.exp(-((points[..., 0] - x) ** 2 + (points[..., 1] - y) ** 2) / 0.0006)
    return np.where(points[..., 2] > 0, 1.0 - 0.7 * dark, 1.0)[..., None] * np.full(points.shape, 180.0)


def test_face_at_back_correlates_with_the_face():
    """A face on the front alone does not correlate; a copy of it on the back correlates fully."""
    once = drawn(features)
    twice = drawn(lambda points: np.minimum(features(points), features(points * np.array([-1.0, 1.0, -1.0]))))
    assert images.face_at_back(evidence(previews=once)) < 0.3
    assert images.face_at_back(evidence(previews=twice)) > 0.95


def test_relief_at_back_correlates_with_the_front():
    """The relief of an ellipsoid correlates fully with its back; a nose on one side lowers the correlation."""

    def nose(view):
        rows, columns = np.indices((SIDE, SIDE))
        depth = PLAIN.depth.copy()
        depth[view] -= 0.15 * np.exp(-((rows - 26) ** 2 + (columns - 24) ** 2) / 12.0).astype(np.float32)
        return depth

    nosed = Rendering(rgb=PLAIN.rgb, mask=PLAIN.mask, depth=nose(0))
    both = Rendering(rgb=PLAIN.rgb, mask=PLAIN.mask, depth=nose([0, 4]))
    assert images.relief_at_back(evidence()) > 0.95
    assert images.relief_at_back(evidence(previews=both)) > 0.95
    assert images.relief_at_back(evidence(previews=nosed)) < 0.8


def test_refined_grid_equals_the_dense_grid_near_the_surface():
    """Same inside and outside as the dense grid, exact near the surface, with less than half of the evaluations."""
    evaluated = []

    def density(points):
        evaluated.append(len(points))
        reach = np.linalg.norm((points - np.array([0.02, -0.03, 0.01])) / np.array([0.2, 0.3, 0.25]), axis=-1)
        return np.clip(10.0 * (1.0 - (reach - 1.0) * 4.0), 0.0, 20.0).astype(np.float32)

    grid = refined_density_grid(density, 1.0, CELLS, LEVEL)
    refined = sum(evaluated)
    dense = density(NODES.reshape(-1, 3).astype(np.float32)).reshape(grid.shape)
    np.testing.assert_array_equal(grid > LEVEL, dense > LEVEL)
    near = np.abs(dense - LEVEL) < 2.0
    np.testing.assert_allclose(grid[near], dense[near], atol=1e-4)
    assert refined < dense.size / 2


def test_refined_grid_refuses_odd_cells():
    """Every second node needs an even number of cells."""
    with pytest.raises(ValueError, match="cells: expected an even number"):
        refined_density_grid(lambda points: points[:, 0], 1.0, 33, LEVEL)


def test_the_table_matches_the_score_functions():
    """Names are unique, each has a function of that name, and all have a description and a unit."""
    names = [score.name for score in SCORES]
    assert len(set(names)) == len(names)
    assert {name: function.__name__ for name, function in score_functions().items()} == {name: name for name in names}
    assert all(score.description and score.unit for score in SCORES)
