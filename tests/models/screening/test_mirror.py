"""The mirror plane and the frame of heads that are tilted, turned and shifted."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.screening import shape_scores as shapes
from spinmeround.models.screening import symmetry_scores as halves
from spinmeround.models.screening.evidence import Evidence
from spinmeround.models.screening.frame import REGIONS, head_frame
from spinmeround.models.screening.mirror import CENTRAL, MirrorPlane, fit_mirror_plane
from spinmeround.storage.records import Rendering

CELLS = 80
NODES = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, CELLS + 1)] * 3, indexing="ij"), axis=-1)
LANDMARKS = np.array(
    [(-0.06, 0.0, 0.15), (0.06, 0.0, 0.15), (0.0, -0.07, 0.2), (-0.04, -0.1, 0.15), (0.04, -0.1, 0.15)], np.float32
)
POSES = [(0.0, 0.0, 0.0), (6.0, 0.0, 0.01), (-10.0, 5.0, -0.02), (8.0, -9.0, 0.03)]
"""Roll and yaw in degrees, and offset to the side in sides of the cube."""


def head(points, lumps=()):
    """A density with a skull, a nose and a neck, symmetric about x = 0, and lumps (centre, radius) on top of it."""
    parts = [((0.0, 0.05, -0.02), (0.15, 0.19, 0.19)), ((0.0, -0.05, 0.17), (0.03, 0.04, 0.05))]
    parts += [((0.0, -0.6, -0.05), (0.14, 0.5, 0.12)), *((centre, (radius,) * 3) for centre, radius in lumps)]
    distances = [
        min(radii) * (np.sqrt((((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1)) - 1.0)
        for centre, radii in parts
    ]
    return np.clip(10.0 * (1.0 - np.min(distances, axis=0) / 0.05), 0.0, 20.0).astype(np.float32)


def posed(pose, lumps=()):
    """The density, landmarks and plane of the head with a roll, yaw and offset."""
    roll, yaw, offset = pose
    turn = Rotation.from_euler("yz", [yaw, roll], degrees=True).as_matrix()
    shift = np.array([offset, 0.0, 0.0])
    plane = MirrorPlane(normal=turn[:, 0], offset=float(turn[:, 0] @ shift))
    return head((NODES - shift) @ turn, lumps), (LANDMARKS @ turn.T + shift).astype(np.float32), plane


def evidence(density, landmarks):
    """The evidence of a head whose previews show nothing."""
    cameras = ViewGrid(azimuths=4, elevations_deg=(0.0,)).cameras()
    blank = Rendering(
        rgb=np.full((4, 16, 16, 3), 255, np.uint8),
        mask=np.zeros((4, 16, 16), np.uint8),
        depth=np.full((4, 16, 16), np.nan, np.float32),
    )
    return Evidence(density=density, level=10.0, box_warp=1.0, previews=blank, cameras=cameras, landmarks=landmarks)


@pytest.mark.parametrize("pose", POSES)
def test_the_plane_of_a_posed_head_is_found(pose):
    """Normal within half a degree and offset within 0.002 sides of the plane that the head was built around."""
    density, _, plane = posed(pose)
    found = fit_mirror_plane(density, 10.0)
    assert np.degrees(np.arccos(found.normal @ plane.normal)) < 0.5
    assert found.offset == pytest.approx(plane.offset, abs=0.002)


def test_a_bun_off_centre_does_not_move_the_plane():
    """A ball of radius 0.05 on one side of the back changes the plane by less than a degree."""
    density, _, plane = posed(POSES[2], lumps=[((0.07, 0.12, -0.2), 0.05)])
    found = fit_mirror_plane(density, 10.0)
    assert np.degrees(np.arccos(found.normal @ plane.normal)) < 1.0
    assert found.offset == pytest.approx(plane.offset, abs=0.004)


def test_an_empty_grid_has_the_central_plane():
    """Without a surface the plane is x = 0."""
    assert fit_mirror_plane(np.zeros((33, 33, 33), np.float32), 10.0) is CENTRAL


@pytest.mark.parametrize("pose", POSES[1:])
def test_shape_scores_do_not_depend_on_the_pose(pose):
    """Tilted, turned and shifted, a symmetric head stays symmetric, and crown and back keep their places."""
    upright, turned = (evidence(*posed(each)[:2]) for each in (POSES[0], pose))
    assert halves.asymmetry(turned) < 1e-3, pose
    assert shapes.one_sided_dents(turned) < 0.01
    for score in (shapes.crown_height, shapes.back_depth):
        assert score(turned) == pytest.approx(score(upright), abs=2.0 / CELLS)


@pytest.mark.parametrize("pose", POSES)
def test_a_one_sided_lump_is_seen_in_every_pose(pose):
    """A lump on one side keeps its share of the volume as asymmetry."""
    lump = [((0.14, 0.08, -0.02), 0.05)]
    expected = halves.asymmetry(evidence(*posed(POSES[0], lump)[:2]))
    assert expected > 0.002
    assert halves.asymmetry(evidence(*posed(pose, lump)[:2])) == pytest.approx(expected, rel=0.4)


def test_reflecting_twice_is_the_identity():
    """The plane maps points back, and points on it to themselves."""
    plane = MirrorPlane.of(7.0, -5.0, 0.02)
    points = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(plane.reflect(plane.reflect(points)), points, atol=1e-12)
    on = points - ((points @ plane.normal) - plane.offset)[:, None] * plane.normal
    np.testing.assert_allclose(plane.reflect(on), on, atol=1e-12)


def test_the_frame_without_landmarks_comes_from_the_outline():
    """From crown and neck alone the eyes are within 0.08 sides of where the landmarks have them."""
    density, landmarks, _ = posed(POSES[0])
    known, guessed = (evidence(density, each).frame for each in (landmarks, None))
    assert guessed.origin[1] == pytest.approx(known.origin[1], abs=0.08)
    assert guessed.face == pytest.approx(known.face, rel=0.35)


def test_landmarks_far_from_the_plane_are_not_trusted():
    """Landmarks that are off the middle, upside down or not finite leave the frame to the outline."""
    expected = head_frame(CENTRAL, None, 0.2, -0.2)
    for wrong in (LANDMARKS + np.float32([0.2, 0, 0]), -LANDMARKS, np.full((5, 3), np.nan, np.float32)):
        found = head_frame(CENTRAL, wrong, 0.2, -0.2)
        np.testing.assert_array_equal(found.origin, expected.origin)


def test_regions_divide_the_head():
    """Every finite point belongs to exactly one region, a NaN point to none."""
    frame = head_frame(CENTRAL, LANDMARKS, 0.2, -0.2)
    points = np.concatenate([np.random.default_rng(1).uniform(-0.5, 0.5, (500, 3)), np.full((1, 3), np.nan)])
    count = sum(frame.region(name, points).astype(int) for name in REGIONS)
    assert (count[:-1] == 1).all()
    assert count[-1] == 0
    assert frame.region("face", np.array([0.0, -0.05, 0.15]))
    assert frame.region("neck", np.array([0.0, -0.3, 0.0]))


def test_the_bottom_of_the_grid_is_no_end_of_the_neck():
    """A neck that the grid cuts continues below, so the cut is neither dent nor asymmetry of a tilted head."""
    density, landmarks, _ = posed(POSES[2])
    solid = evidence(density, landmarks).solid
    lowest = int(np.argwhere(solid.inside)[:, 1].min())
    assert lowest == 0
    assert ndimage.label(solid.inside)[1] == 1
