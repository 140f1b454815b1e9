import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.groups import check_cameras, plan_groups
from models.geometry.cameras import Cameras, ViewGrid, orbit


def with_radii(*radii: float) -> Cameras:
    """Frontal cameras at these distances."""
    cameras = [orbit([0.0], [0.0], radius=radius) for radius in radii]
    return Cameras(**{name: np.concatenate([getattr(camera, name) for camera in cameras]) for name in vars(cameras[0])})


@given(count=st.integers(1, 60), size=st.integers(1, 8), seed=st.integers(0, 9))
def test_groups_cover_all_targets_whatever_their_order(count: int, size: int, seed: int) -> None:
    """Every target is in a group, all groups are full, and another order of the same cameras makes the same groups."""
    cameras = ViewGrid().cameras()[:count]
    order = np.random.default_rng(seed).permutation(count)
    groups, shuffled = plan_groups(cameras, size), plan_groups(cameras[order], size)
    assert {target for group in groups for target in group} == set(range(count))
    assert all(len(group) == size for group in groups)
    assert [[int(order[i]) for i in group] for group in shuffled] == groups


def test_neighbours_are_together() -> None:
    """A ring of 12 views in groups of 4 is cut into arcs of neighbours, and -30 degrees is next to 300."""
    azimuths = [-30.0, 0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]
    groups = plan_groups(orbit(azimuths, [0.0] * 12), 4)
    assert groups == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 0]]


def test_nonsense_is_refused() -> None:
    """No targets, groups of none, a camera inside the head's cube and one with a NaN."""
    with pytest.raises(ValueError, match="groups: expected 1 or more targets"):
        plan_groups(orbit([0.0], [0.0]), 0)
    with pytest.raises(
        ValueError, match=r"cameras: expected cameras at a distance of 0.87 or more .* got 0.5 for camera 1"
    ):
        check_cameras("cameras", with_radii(2.7, 0.5))
    with pytest.raises(ValueError, match="got nan for camera 0"):
        check_cameras("cameras", orbit([float("nan")], [0.0]))
