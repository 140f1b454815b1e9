import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spinmeround.models.diffusion.sampling.groups import plan_anchored, plan_groups
from spinmeround.models.diffusion.sampling.view_plan import ViewPlan, anchor_cameras, plan_views
from spinmeround.models.geometry.camera_checks import check_cameras, first_occurrences
from spinmeround.models.geometry.cameras import (
    Cameras,
    ViewGrid,
    absolute_azimuth_deg,
    angles_between_deg,
    concatenate,
    orbit,
)


def with_radii(*radii: float) -> Cameras:
    """Frontal cameras at these distances."""
    return concatenate([orbit([0.0], [0.0], radius=radius) for radius in radii])


@given(count=st.integers(1, 60), size=st.integers(1, 8), seed=st.integers(0, 9))
def test_groups_keep_every_target_once_in_any_order(count: int, size: int, seed: int) -> None:
    """Every target is kept by one group, all groups are full of distinct views, and the order of cameras has no effect
    on the groups."""
    cameras = ViewGrid().cameras()[:count]
    order = np.random.default_rng(seed).permutation(count)
    groups, shuffled = plan_groups(cameras, size), plan_groups(cameras[order], size)
    assert sorted(target for group in groups for target in group.kept) == list(range(count))
    assert all(len(set(group.targets)) == size for group in groups)
    renamed = [*order.tolist(), *range(count, count + size + 1)]  # padding cameras are the same in any order
    assert [[renamed[i] for i in group.targets] for group in shuffled] == [group.targets for group in groups]


def cameras_of_groups(plan: ViewPlan, given: Cameras | None) -> list[Cameras]:
    """All cameras of each group, conditioning views first."""
    before, found = [] if given is None else [given], []
    for stage in plan.stages:
        for group in stage.groups:
            conditioning = [concatenate(before)[[*group.conditioning_indices]]] if group.conditioning_indices else []
            found.append(concatenate([*conditioning, stage.cameras[group.targets]]))
        before.append(stage.cameras[: stage.count])
    return found


@given(
    azimuths=st.integers(1, 30),
    repeated=st.lists(st.integers(0, 29), max_size=3),
    views=st.integers(2, 12),
    photos=st.sampled_from([0, 1, 3]),
    anchored=st.sampled_from([None, False, True]),
    seed=st.integers(0, 9),
)
def test_no_group_contains_a_camera_twice(
    azimuths: int, repeated: list[int], views: int, photos: int, anchored: bool | None, seed: int
) -> None:
    """Cameras of targets differ from each other, from given views and from anchors, for any request. Groups have the
    network's size, sources refer to the requested cameras, and the order of cameras has no effect on the groups."""
    cameras = ViewGrid(azimuths=azimuths, elevations_deg=(0.0,)).cameras()
    cameras = cameras[[*range(azimuths), *(view % azimuths for view in repeated)]]
    photo = ViewGrid(azimuths=4, elevations_deg=(0.0,)).cameras()[:photos] if photos else None
    assume(photos < views and (not anchored or photos < 3 < views))
    plan = plan_views(cameras, photo, views, anchored)
    groups = cameras_of_groups(plan, photo)
    for group in groups:
        assert len(group) == views
        assert first_occurrences(group) == list(range(views))
    stages = [stage.cameras[: stage.count] for stage in plan.stages]
    made = concatenate([*([] if photo is None else [photo]), *stages])[plan.sources]
    np.testing.assert_allclose(made.cam2world, cameras.cam2world, atol=1e-4)
    order = np.random.default_rng(seed).permutation(len(cameras))
    shuffled = cameras_of_groups(plan_views(cameras[order], photo, views, anchored), photo)
    for group, again in zip(groups, shuffled, strict=True):
        np.testing.assert_array_equal(group.cam2world, again.cam2world)


def test_cameras_at_one_angle_are_grouped_in_any_order() -> None:
    """For three distances and focal lengths per angle, the order of cameras affects neither groups nor anchors."""
    lenses = [(2.7, 4.0), (3.0, 4.2647), (2.7, 4.2647)]
    each = [orbit([a] * 3, [0.0] * 3, radius=radius, focal=focal) for radius, focal in lenses for a in (0.0, 90.0)]
    cameras = concatenate(each)
    for anchored in (False, True):
        groups = cameras_of_groups(plan_views(cameras, None, 8, anchored), None)
        backwards = cameras_of_groups(plan_views(cameras[::-1], None, 8, anchored), None)
        for one, other in zip(groups, backwards, strict=True):
            np.testing.assert_array_equal(one.cam2world, other.cam2world)
            np.testing.assert_array_equal(one.intrinsics, other.intrinsics)


def test_neighbours_share_a_group() -> None:
    """A ring of 12 views splits into arcs of 4 neighbours; -30 degrees is next to 300."""
    azimuths = [-30.0, 0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]
    groups = plan_groups(orbit(azimuths, [0.0] * 12), 4, (0,))
    assert [group.targets for group in groups] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 0]]


def slow_angle(a: Cameras, b: Cameras) -> float:
    """The law of cosines for the triangle of both cameras and the centre."""
    p, q = a.cam2world[0, :3, 3].astype(float), b.cam2world[0, :3, 3].astype(float)
    a_, b_, c_ = np.linalg.norm(p), np.linalg.norm(q), np.linalg.norm(p - q)
    return float(np.degrees(np.arccos(np.clip((a_**2 + b_**2 - c_**2) / (2 * a_ * b_), -1, 1))))


def test_angles_equal_the_law_of_cosines() -> None:
    """For cameras at all angles and distances; 180 degrees for opposite cameras, 0 for equal ones."""
    cameras = concatenate([orbit([0.0, 40.0, 180.0, 300.0], [0.0, 20.0, 0.0, -30.0]), orbit([10.0], [5.0], radius=4.0)])
    got = angles_between_deg(cameras, cameras)
    expected = [[slow_angle(cameras[[i]], cameras[[j]]) for j in range(5)] for i in range(5)]
    np.testing.assert_allclose(got, expected, atol=1e-2)
    assert got[0, 2] == pytest.approx(180, abs=1e-4)
    assert np.diag(got).max() == 0


def test_the_nearest_anchors_are_nearest_by_angle() -> None:
    """Anchors are the two nearest by the angle between cameras, also at an elevation of 80 degrees, where azimuths
    mislead; 300 degrees is next to 315 and 270."""
    anchors = anchor_cameras(orbit([0.0], [0.0]), azimuth_deg=0.0, front=False)
    targets = orbit([60.0, 100.0, 300.0, 5.0], [0.0, 80.0, 10.0, 0.0])
    found = {group.targets[0]: set(group.conditioning_indices[1:]) for group in plan_anchored(targets, anchors, 1)}
    for target in range(len(targets)):
        by_angle = sorted(range(7), key=lambda anchor: slow_angle(targets[[target]], anchors[[anchor]]))
        assert found[target] == {1 + anchor for anchor in by_angle[:2]}
    assert found[2] == {6, 7}


@given(count=st.integers(1, 60), size=st.integers(1, 5), seed=st.integers(0, 9))
def test_anchored_groups_keep_every_target_once_in_any_order(count: int, size: int, seed: int) -> None:
    """Every target is kept by one group, groups are full, and the order of cameras has no effect on the groups."""
    cameras = ViewGrid().cameras()[:count]
    anchors = anchor_cameras(cameras, azimuth_deg=0.0, front=False)
    order = np.random.default_rng(seed).permutation(count)
    groups, shuffled = plan_anchored(cameras, anchors, size), plan_anchored(cameras[order], anchors, size)
    assert sorted(target for group in groups for target in group.kept) == list(range(count))
    assert all(len(set(group.targets)) == size for group in groups)
    renamed = [*order.tolist(), *range(count, count + size)]
    assert [[renamed[i] for i in group.targets] for group in shuffled] == [group.targets for group in groups]


def test_anchors_are_relative_to_the_photo() -> None:
    """A photo at 20 degrees has anchors at 65, 110, ..., with its distance and intrinsics. Without a photo, the front
    is an anchor too."""
    photo = orbit([20.0], [10.0], radius=3.0, focal=3.5)
    plan = plan_views(ViewGrid(azimuths=48).cameras(), photo, 8, True)
    assert plan.anchors.count == 7
    ring = plan.anchors.cameras
    np.testing.assert_allclose(ring.azimuth_deg, 20 + 45 * np.arange(1, 8))
    np.testing.assert_allclose(np.linalg.norm(ring.cam2world[:, :3, 3], axis=1), 3.0, rtol=1e-6)
    assert ring.intrinsics[3, 0, 0] == np.float32(3.5)
    plan = plan_views(ViewGrid(azimuths=48).cameras(), None, 8, True)
    np.testing.assert_allclose(plan.anchors.cameras.azimuth_deg, 45 * np.arange(8))
    assert all(group.conditioning_indices[0] == 0 for group in plan.targets.groups)  # the front


def test_requests_of_more_than_one_group_are_anchored() -> None:
    """From one photo, 7 views are one group and 8 are anchored, unless one is the photo's. Requests with three photos
    or a network of 3 views are never anchored."""
    photo, grid = orbit([0.0], [0.0]), ViewGrid(azimuths=8, elevations_deg=(10.0,)).cameras()
    assert plan_views(concatenate([grid[:7], photo]), photo, 8, None).anchors is None
    assert plan_views(grid[:7], photo, 8, None).anchors is None
    assert plan_views(grid, photo, 8, None).anchors is not None
    assert plan_views(grid, photo, 8, False).anchors is None
    assert plan_views(grid, grid[:3], 8, None).anchors is None
    assert plan_views(grid, photo, 3, None).anchors is None
    with pytest.raises(ValueError, match="anchored: expected 0 or 1 conditioning views and a network of 4 or more"):
        plan_views(grid, grid[:3], 8, True)


@given(
    azimuths=st.lists(st.integers(0, 359), min_size=1, max_size=30, unique=True),
    views=st.integers(2, 8),
    anchored=st.sampled_from([None, False]),
)
def test_every_group_starts_with_a_view_of_the_face(azimuths: list[int], views: int, anchored: bool | None) -> None:
    """The first view sets the frame and shows part of the face, as in training: the most frontal of the given views, or
    without these the most frontal target or a frontal padding view."""
    cameras = orbit([float(azimuth) for azimuth in azimuths], [0.0] * len(azimuths))
    for group in cameras_of_groups(plan_views(cameras, None, views, anchored), None):
        assert absolute_azimuth_deg(group.azimuth_deg)[0] <= 90
    if views > 3:
        given_views = orbit([180.5, 20.5, 100.5], [0.0] * 3)
        for group in cameras_of_groups(plan_views(cameras, given_views, views, None), given_views):
            np.testing.assert_allclose(group.azimuth_deg[:3], [20.5, 100.5, 180.5])


def test_a_frontal_view_is_added_if_no_target_shows_the_face() -> None:
    """Seven views from behind share a group with a frontal one; eight are anchored; a target that shows the face
    replaces the frontal view."""
    behind = orbit([100.0 + 20 * i for i in range(8)], [0.0] * 8)
    plan = plan_views(behind[:7], None, 8, None)
    (group,) = cameras_of_groups(plan, None)
    np.testing.assert_allclose(group.azimuth_deg, [0.0, *behind.azimuth_deg[:7]])
    assert plan.sources == list(range(7))
    assert plan_views(behind, None, 8, None).anchors is not None
    (group,) = cameras_of_groups(plan_views(concatenate([behind[:7], orbit([60.0], [0.0])]), None, 8, None), None)
    np.testing.assert_allclose(group.azimuth_deg, [60.0, *behind.azimuth_deg[:7]])


def test_invalid_requests_are_refused() -> None:
    """No targets, empty groups, cameras inside the head's cube, poses that are not finite or not rigid, invalid
    intrinsics, and two given views at one camera."""
    with pytest.raises(ValueError, match="groups: expected 1 or more targets"):
        plan_groups(orbit([0.0], [0.0]), 0)
    with pytest.raises(ValueError, match="cameras: expected 1 or more, got none"):
        plan_views(orbit([], []), None, 8, None)
    with pytest.raises(
        ValueError, match=r"cameras: expected cameras at a distance of 0.87 or more .* got 0.5 for camera 1"
    ):
        check_cameras("cameras", with_radii(2.7, 0.5))
    for entry, value in (((0, 0), np.nan), ((0, 0), 2.0), ((0, slice(0, 3)), -1.0), ((1, 3), np.inf)):
        broken = with_radii(2.7, 2.7)
        broken.cam2world[1][entry] = value
        with pytest.raises(ValueError, match=r"cameras: expected rigid poses of finite numbers, got .* for camera 1"):
            check_cameras("cameras", broken)
    mirrored = with_radii(2.7)
    mirrored.cam2world[0, :3, 0] *= -1
    with pytest.raises(ValueError, match="rigid poses"):
        check_cameras("cameras", mirrored)
    with pytest.raises(
        ValueError, match=r"conditioning_views: expected views from different cameras, .* views 0 and 2"
    ):
        plan_views(orbit([0.0], [0.0]), orbit([10.0, 20.0, 10.0], [0.0] * 3), 8, None)
    for focal in (float("nan"), 0.0, -4.0, float("inf")):
        with pytest.raises(ValueError, match=r"cameras: expected finite intrinsics with .* for camera 0"):
            check_cameras("cameras", orbit([0.0], [0.0], focal=focal))
