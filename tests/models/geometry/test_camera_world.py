"""Cameras of another world: which see the head, and the cause that is named where they don't."""

from dataclasses import replace

import numpy as np
import pytest

from spinmeround.models.geometry.camera_world import camera_warnings, check_sees_head, check_world, extents, sees_head
from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.models.geometry.transforms import FLIP

ONE, THREE, RING = (
    orbit([30.0], [10.0]),
    orbit([0.0, 60.0, 200.0], [0.0, 10.0, -10.0]),
    orbit(np.arange(0.0, 360.0, 30.0), [0.0] * 12),
)
Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])
AWAY = np.diag([-1.0, 1.0, -1.0, 1.0])
QUARTER = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def read(cameras: Cameras, change) -> Cameras:
    """The cameras that are read from a file whose camera-to-world matrices with OpenGL axes were changed."""
    matrices = change(cameras.cam2world.astype(np.float64) @ FLIP)
    return replace(cameras, cam2world=(matrices @ FLIP).astype(np.float32))


def with_scale(factor: float):
    def change(matrices: np.ndarray) -> np.ndarray:
        changed = matrices.copy()
        changed[:, :3, 3] *= factor
        return changed

    return change


MISTAKES = {
    "OpenCV axes": (lambda m: m @ FLIP, "likely the file has OpenCV camera axes"),
    "away": (lambda m: m @ AWAY, "likely the file has cameras that look away from the head"),
    "z up": (lambda m: Z_UP @ m, "likely the file has a world with z up"),
    "y down": (lambda m: FLIP @ m, "likely the file has a world with y down"),
    "world to camera": (np.linalg.inv, "likely the file has world-to-camera matrices"),
    "OpenCV, world to camera": (
        lambda m: np.linalg.inv(m @ FLIP),
        r"world-to-camera matrices \(invert them\) and OpenCV camera axes",
    ),
    "OpenCV, z up": (lambda m: Z_UP @ m @ FLIP, r"OpenCV camera axes \(.*\) and a world with z up"),
    "millimetres": (with_scale(1000.0), r"positions in millimetres \(about 1000 times too large\)"),
    "centimetres": (with_scale(100.0), r"positions in centimetres \(about 100 times too large\)"),
    "millimetres, OpenCV": (
        lambda m: with_scale(1000.0)(m) @ FLIP,
        "positions in millimetres .* and OpenCV camera axes",
    ),
}


@pytest.mark.parametrize("cameras", [ONE, THREE, RING], ids=["one", "three", "ring"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_likely_cause_is_named(cameras: Cameras, mistake: str) -> None:
    """Right cameras pass; after each mistake of a file they are refused with its name."""
    change, message = MISTAKES[mistake]
    check_world("frames", cameras)
    with pytest.raises(ValueError, match=message) as refused:
        check_world("frames", read(cameras, change))
    assert str(refused.value).startswith("frames: expected cameras that see the head's cube")
    assert len(str(refused.value)) < 300


def test_a_frontal_camera_from_world_to_camera_has_two_causes() -> None:
    """Both are named where they can't be told apart."""
    with pytest.raises(ValueError, match=r"world-to-camera matrices .* or cameras that look away"):
        check_world("frames", read(orbit([0.0], [0.0]), np.linalg.inv))


def test_cameras_without_a_known_cause() -> None:
    """A camera beside the head is refused without a guess, by the index of the first."""
    beside = read(THREE, lambda m: m)
    moved = beside.cam2world.copy()
    moved[1, :3, 3] += 5 * moved[1, :3, 0]
    with pytest.raises(
        ValueError, match=r"got camera 1 at \(.*\) that looks along \(.*\); matrices are camera-to-world"
    ):
        check_world("frames", replace(beside, cam2world=moved))
    with pytest.raises(ValueError, match=r"cameras: expected cameras that see the head.* got camera 1"):
        check_sees_head("cameras", replace(beside, cam2world=moved))


def test_views_of_a_part_of_the_head_see_it() -> None:
    """A long lens whose image lies inside the cube, a corner of the cube in the image, and all elevations."""
    assert sees_head(orbit([0.0], [0.0], focal=400.0)).all()
    corner = orbit([0.0], [0.0])
    moved = corner.cam2world.copy()
    moved[0, 0, 3] = 0.75
    assert sees_head(replace(corner, cam2world=moved)).all()
    for elevation in (-90.0, -60.0, 60.0, 90.0):
        assert sees_head(orbit([0.0, 120.0], [elevation] * 2)).all()
        check_world("frames", orbit([0.0, 120.0, 0.0], [elevation, elevation, 0.0]))


def test_unusual_cameras_are_warned_of_with_both_numbers() -> None:
    """Distance, width of the image, a head beside the middle, and a rolled camera."""
    assert camera_warnings("frames", THREE, 2.7) == []
    assert camera_warnings("frames", orbit([0.0], [0.0], radius=4.0), 4.0) == []
    far = camera_warnings("frames", orbit([0.0, 9.0], [0.0, 0.0], radius=5.4), 2.7)
    assert "its position is 5.4 from the head's centre, 2.7 in training" in far[0]
    assert "its image is 1.27 wide at the head's centre, 0.633 in training" in far[1]
    oblong = orbit([0.0, 9.0], [0.0, 0.0])
    intrinsics = oblong.intrinsics.copy()
    intrinsics[1, 1, 1] *= 1.1
    squeezed = camera_warnings("frames", replace(oblong, intrinsics=intrinsics), 2.7)
    assert squeezed == [
        "frames: camera 1 has focal lengths of 4.265 (x) and 4.691 (y) sides of the image; in training they are equal, "
        "so the head may be squeezed"
    ]
    shifted = oblong.intrinsics.copy()
    shifted[1, 0, 2] = 250 / 256
    assert camera_warnings("frames", replace(oblong, intrinsics=shifted), 2.7)[0] == (
        "frames: camera 1 has its principal point at 0.977, 0.5 of the image; in training it is in the middle "
        "(0.5, 0.5), so the head may be off centre"
    )
    rolled = read(orbit([0.0], [0.0]), lambda m: m @ QUARTER)
    check_world("frames", rolled)
    assert "camera 0 is rolled by more than 45 degrees" in camera_warnings("frames", rolled, 2.7)[0]
    aside = orbit([0.0], [0.0]).cam2world.copy()
    aside[0, 0, 3] = 0.5
    assert (
        "outside the image of camera 0" in camera_warnings("f", replace(orbit([0.0], [0.0]), cam2world=aside), 2.7)[0]
    )


def test_extents_are_in_units_of_the_training() -> None:
    """1 on the trained orbit, proportional to distance over focal length."""
    np.testing.assert_allclose(extents(orbit([0.0, 50.0], [0.0, 20.0])), 1.0, atol=1e-6)
    np.testing.assert_allclose(extents(orbit([0.0], [0.0], radius=5.4, focal=4.2647 / 2)), 4.0, atol=1e-6)
