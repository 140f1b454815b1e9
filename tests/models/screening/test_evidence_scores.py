"""Scores of neck, roughness, agreement of views, population and faces, on shapes and images with a known value."""

import dataclasses

import numpy as np
import pytest

from spinmeround.models.screening import agreement_scores as agreement
from spinmeround.models.screening import face_scores, neck_scores
from spinmeround.models.screening.faces import SeenFaces
from spinmeround.models.screening.frame import REGIONS
from spinmeround.models.screening.grid import AZIMUTHS, CHANNELS, MODALITIES, ROWS, cells_of
from spinmeround.models.screening.inspection.findings import Inspection
from spinmeround.models.screening.maps import MAPS, all_maps
from spinmeround.models.screening.measure import all_scores
from spinmeround.models.screening.population import Population, fit_population, overall, population_scores
from spinmeround.models.screening.roughness_scores import ROUGHNESS
from spinmeround.models.screening.scores import SCORES
from spinmeround.models.screening.unwrapping import over_previews, unwrap
from tests.models.screening.test_mirror import POSES, posed
from tests.models.screening.test_scores import PLAIN, RING, SIDE, drawn, ellipsoid, evidence, smooth

BOTTOM = np.s_[:, :24]
"""Nodes below the chin of the test head (y < -0.26)."""


def necked(half_width=0.08, half_depth=0.08, offset=0.0):
    """The ellipsoid with an elliptic neck that leaves the cube at the bottom."""
    inside = ellipsoid((0.18, 0.2, 0.22))
    x, z = np.meshgrid(*[np.linspace(-0.5, 0.5, len(inside))] * 2, indexing="ij")
    section = ((x - offset) / half_width) ** 2 + (z / half_depth) ** 2 < 1
    neck = np.zeros_like(inside)
    neck[:, :48] = section[:, None]
    return smooth(inside | neck)


def test_the_neck_has_the_known_cross_section():
    """Area relative to the widest section of the ellipsoid, ratio of the axes, and distance from the middle."""
    found = evidence(necked(0.08, 0.04))
    assert neck_scores.neck_area(found) == pytest.approx(0.08 * 0.04 / (0.18 * 0.22), rel=0.12)
    assert neck_scores.neck_elongation(found) == pytest.approx(2.0, rel=0.12)
    assert neck_scores.neck_offset(found) < 0.01
    assert neck_scores.neck_offset(evidence(necked(offset=0.06))) > 0.03
    assert neck_scores.shoulder_spread(found) == pytest.approx(1.0, abs=0.1)


def test_a_stepped_neck_has_a_step():
    """A plate of twice the neck's width across it is a step of the logarithm of four."""
    density = necked(0.06, 0.06)
    plate = necked(0.12, 0.12)
    stepped = density.copy()
    stepped[:, 8:14] = plate[:, 8:14]
    assert neck_scores.neck_step(evidence(density)) < 0.2
    assert neck_scores.neck_step(evidence(stepped)) == pytest.approx(np.log(4.0), rel=0.25)


def test_a_head_without_neck_has_no_neck_scores():
    """A head that ends above the chin gives None."""
    short = evidence(smooth(ellipsoid((0.15, 0.15, 0.15), (0.0, 0.1, 0.0))))
    for score in (neck_scores.neck_area, neck_scores.neck_elongation, neck_scores.neck_step):
        assert score(short) is None


@pytest.mark.parametrize(("scale", "period"), [("fine_relief", 3.0), ("coarse_relief", 6.0)])
def test_pimples_raise_the_roughness_of_their_region_only(scale, period):
    """Waves of depth on the back of the head raise the score of the back and leave that of the face."""
    rows, columns = np.indices((SIDE, SIDE))
    depth = PLAIN.depth.copy()
    depth[3:6] += 0.02 * np.sin(2 * np.pi * rows / period) * np.sin(2 * np.pi * columns / period).astype(np.float32)
    rough = evidence(previews=dataclasses.replace(PLAIN, depth=depth.astype(np.float32)))
    smooth_head = evidence()
    back, face = ROUGHNESS[f"{scale}_back"], ROUGHNESS[f"{scale}_face"]
    assert back(rough) > back(smooth_head) + 1.0
    assert face(rough) == pytest.approx(face(smooth_head))


def test_noise_raises_the_roughness_of_colour():
    """Speckles of 20 percent on all pixels score about that much; a plain head scores nothing."""
    rng = np.random.default_rng(0)
    speckled = drawn(lambda points: 120.0 * rng.choice([0.8, 1.2], points.shape[:-1])[..., None] * np.ones(3))
    score = ROUGHNESS["fine_colour_face"]
    assert score(evidence()) < 0.5
    assert 10.0 < score(evidence(previews=speckled)) < 40.0


def test_views_of_one_surface_agree():
    """A texture fixed to the surface agrees between neighbours; another texture in each view does not."""

    def stripes(points):
        return (120.0 + 60.0 * np.sin(40.0 * points[..., 1:2])) * np.ones(3)

    fixed = drawn(stripes)
    moved = dataclasses.replace(
        fixed, rgb=np.stack([np.roll(view, 3 * index, 0) for index, view in enumerate(fixed.rgb)])
    )
    moved.rgb[moved.mask == 0] = 255
    same, other = (agreement.view_disagreement(evidence(previews=each)) for each in (fixed, moved))
    assert same < 0.12
    assert other > 3.0 * same


def test_a_surface_that_one_view_alone_shows_disagrees():
    """Depth that comes 0.1 nearer in one of eight views floats before what its neighbour shows."""
    near = dataclasses.replace(PLAIN, depth=PLAIN.depth.copy())
    near.depth[2] -= 0.1
    assert agreement.depth_disagreement(evidence()) < 0.01
    assert agreement.depth_disagreement(evidence(previews=near)) > 0.03


def population_heads(count, seed=0):
    """Unwrapped heads that vary in two directions of each modality, with a little noise in every cell."""
    rng = np.random.default_rng(seed)
    shape = (CHANNELS, ROWS, AZIMUTHS)
    directions = np.random.default_rng(7).normal(size=(2, *shape)) * 0.02
    noise = rng.normal(size=(count, *shape)) * 0.004
    return (0.15 + np.tensordot(rng.normal(size=(count, 2)), directions, 1) + noise).astype(np.float32)


def test_a_patch_that_no_head_has_is_far_from_the_population():
    """A dent in the back of a held-out head moves the scores of the back and of shape, not those of the face."""
    population = fit_population(population_heads(80))
    (plain_head,) = population_heads(1, seed=1)
    dented = plain_head.copy()
    back = cells_of("back")
    dented[0][back] -= 0.05
    before, after = (population_scores(population.deviations(each)) for each in (plain_head, dented))
    assert after["population_back"] > 3.0 * before["population_back"]
    assert after["population_shape"] > 2.0 * before["population_shape"]
    assert after["population_face"] == pytest.approx(before["population_face"], rel=0.35)
    assert after["population_colour"] == pytest.approx(before["population_colour"])


def test_defective_heads_in_the_training_set_are_trimmed():
    """A quarter of heads with a lump, each in a place of its own, does not hide the lumps."""
    heads, rng = population_heads(100), np.random.default_rng(5)
    for head in heads[:25]:
        row, column = rng.integers(0, ROWS - 4), rng.integers(0, AZIMUTHS - 6)
        head[0, row : row + 4, column : column + 6] += 0.06
    population = fit_population(heads)
    distances = np.array([overall(population.deviations(head)) for head in heads])
    assert distances[:25].min() > 1.5 * distances[25:].max()


def test_a_population_survives_its_file_form():
    """The arrays give the same scores; missing, misshaped and non-finite arrays are named."""
    population, (one,) = fit_population(population_heads(60)), population_heads(1, seed=3)
    arrays = population.arrays()
    again = Population.of_arrays(arrays)
    assert population_scores(again.deviations(one)) == population_scores(population.deviations(one))
    for name, bad in (
        ("shape.mean", np.zeros(3, np.float32)),
        ("colour.spread", np.full_like(arrays["colour.spread"], np.nan)),
    ):
        with pytest.raises(ValueError, match=rf"{name}: expected finite numbers of shape"):
            Population.of_arrays({**arrays, name: bad})
    with pytest.raises(ValueError, match=r"solidity.reach: expected this array, found none"):
        Population.of_arrays({name: value for name, value in arrays.items() if name != "solidity.reach"})
    with pytest.raises(ValueError, match="expected at least 60 heads, got 10"):
        fit_population(population_heads(10))


def test_the_unwrapped_head_has_the_known_radius():
    """The radius of an ellipsoid's cells on the level of the eyes, and the colour that it was painted with."""
    found = unwrap(evidence(smooth(ellipsoid())))
    middle = found[0, 11]  # just below the eyes
    azimuth = np.radians(-180.0 + (np.arange(AZIMUTHS) + 0.5) * 360.0 / AZIMUTHS)
    expected = 1.0 / np.sqrt((np.sin(azimuth) / 0.18) ** 2 + (np.cos(azimuth) / 0.22) ** 2)
    np.testing.assert_allclose(middle, expected, atol=0.006)
    assert np.nanmedian(found[2]) == pytest.approx(np.log(132.0), abs=0.01)
    inside = found[0] > 0.0
    assert inside[6:].all()
    np.testing.assert_allclose(found[1][inside], 1.0)


@pytest.mark.parametrize("pose", POSES[1:])
def test_the_unwrapped_head_does_not_depend_on_the_pose(pose):
    """Radii of a tilted, turned and shifted head are those of the upright one."""
    from tests.models.screening.test_mirror import evidence as blank

    upright, turned = (unwrap(blank(*posed(each)[:2]))[0] for each in (POSES[0], pose))
    above = np.s_[4:]  # the lowest rows reach into the cut
    assert np.quantile(np.abs(upright - turned)[above], 0.9) < 0.01


def test_cells_appear_where_they_lie():
    """A value in the cells of one region shows on its visible pixels and hardly anywhere else."""
    found = evidence(smooth(ellipsoid()))
    shown = over_previews(found, cells_of("back").astype(float))
    assert shown[found.region("back")].mean() > 0.85
    assert shown[found.region("face")].mean() < 0.02


def seen(confidence, count=None, likeness=None):
    """Faces in the previews of RING, frontal view first."""
    views = len(RING)
    return SeenFaces(
        confidence=np.array(confidence, np.float32),
        count=np.array(count if count is not None else np.array(confidence) > 0.5, int),
        likeness=np.array(likeness if likeness is not None else np.full(views, np.nan), np.float32),
        box=np.tile(np.float32([0.3, 0.3, 0.7, 0.7]), (views, 1)),
    )


def test_only_faces_behind_count_as_behind():
    """Faces at 0, 45 and 90 degrees are fine; one at 135 degrees is behind."""
    fine = dataclasses.replace(evidence(), faces=seen([0.9, 0.8, 0.6, 0.0, 0.0, 0.0, 0.5, 0.8]))
    wrong = dataclasses.replace(
        evidence(),
        faces=seen([0.9, 0, 0, 0.7, 0, 0, 0, 0], [2, 0, 0, 1, 0, 0, 0, 0], [1, *[np.nan] * 2, 0.4, *[np.nan] * 4]),
    )
    assert face_scores.face_behind(fine) == 0.0
    assert face_scores.face_behind(wrong) == pytest.approx(0.7)
    assert face_scores.likeness_behind(wrong) == pytest.approx(0.4)
    assert face_scores.faces_in_front(wrong) == 2.0
    assert face_scores.face_in_front(wrong) == pytest.approx(0.9)
    assert face_scores.likeness_behind(fine) is None
    assert face_scores.face_behind(evidence()) is None
    assert all_maps(wrong)["faces"][3].any()
    assert not all_maps(wrong)["faces"][0].any()


def test_every_map_belongs_to_a_score_and_is_made():
    """Scores name existing maps, every map explains a score, and all are images over the previews."""
    assert {score.map for score in SCORES} - {None} == set(MAPS)
    found = dataclasses.replace(evidence(), faces=seen([0.0] * 8), population=fit_population(population_heads(60)))
    nothing = np.zeros((len(RING), 16, 16), np.float32)
    nothing = Inspection(views=nothing[:, 0, 0], cells=nothing, distances=nothing)
    maps = all_maps(dataclasses.replace(found, inspection=nothing))
    assert set(maps) == set(MAPS)
    assert all(image.shape == PLAIN.mask.shape and image.dtype == np.uint8 for image in maps.values())
    values = all_scores(found)
    assert all(
        values[name] is not None for name in ("population", *(f"population_{m}" for m in (*MODALITIES, *REGIONS)))
    )
