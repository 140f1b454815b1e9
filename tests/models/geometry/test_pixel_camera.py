"""Cameras of pictures of any size: rays, sizes, and crops around the head, against OpenCV's projection."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from spinmeround.models.geometry.camera_world import extents
from spinmeround.models.geometry.cameras import Cameras, project
from spinmeround.models.geometry.pixel_camera import PixelCamera
from spinmeround.models.geometry.resampling import resample
from tests.tasks.captured.studio import Rig

RIG = Rig(size=(300, 500), focal=1100.0, unit=1.0, distortion=(-0.1, 0.2, 1e-3, -1e-3, 0.0), shift=np.zeros(3))
VIEW = 2


def camera() -> PixelCamera:
    pose = np.linalg.inv(RIG.world2cam(VIEW))
    return PixelCamera(size=RIG.size, matrix=RIG.matrix, cam2world=pose, coefficients=RIG.distortion)


def test_rays_pass_through_their_points() -> None:
    """The rays of OpenCV's distorted projections of points, to a thousandth of a pixel."""
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 3))
    towards = RIG.world(points) - camera().cam2world[:3, 3]
    expected = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose(camera().directions(RIG.project(VIEW, points)), expected, atol=1e-6)
    assert np.isnan(camera().directions(np.full((1, 2), np.nan))).all()


def test_another_size_is_the_same_camera() -> None:
    """A place keeps its ray; half the size and back is the identity."""
    half = camera().resized((150, 250))
    places = np.array([[20.0, 30.0], [140.5, 333.0]])
    np.testing.assert_allclose(half.directions((places + 0.5) / 2 - 0.5), camera().directions(places), atol=1e-9)
    np.testing.assert_allclose(half.resized(RIG.size).matrix, RIG.matrix)


def test_a_crop_is_as_wide_as_pictures_of_the_training() -> None:
    """The head's centre is in its middle, and the extent there is that of the training."""
    intrinsics = camera().head_crop()
    assert intrinsics is not None
    cameras = Cameras(
        cam2world=camera().cam2world[None].astype(np.float32),
        intrinsics=intrinsics[None].astype(np.float32),
        azimuth_deg=np.zeros(1, np.float32),
        elevation_deg=np.zeros(1, np.float32),
    )
    np.testing.assert_allclose(project(cameras, np.zeros((1, 3)))[0], [[[0.5, 0.5]]], atol=1e-5)
    np.testing.assert_allclose(extents(cameras), 1.0, rtol=1e-5)
    away = camera().cam2world @ np.diag([-1.0, 1.0, -1.0, 1.0])
    assert replace(camera(), cam2world=away).head_crop() is None


def test_a_crop_shows_what_a_pinhole_sees() -> None:
    """Dots drawn where OpenCV projects points, through the lens, are in the crop where a pinhole projects them."""
    points = np.random.default_rng(1).uniform(-0.15, 0.15, (12, 3))
    intrinsics = camera().head_crop()
    assert intrinsics is not None
    pose = RIG.world2cam(VIEW)
    for point in points:
        picture = np.zeros((500, 300, 1), np.float32)
        centre = np.rint(RIG.project(VIEW, point[None])[0] * 16).astype(int).tolist()
        cv2.circle(picture, centre, 5 * 16, 255.0, -1, cv2.LINE_AA, 4)
        crop = resample(picture, camera(), intrinsics, 64, (0.0,))[..., 0]
        rows, columns = np.mgrid[:64, :64]
        found = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
        x, y, _ = intrinsics @ (pose[:3, :3] @ RIG.world(point) + pose[:3, 3])
        depth = (pose[:3, :3] @ RIG.world(point) + pose[:3, 3])[2]
        np.testing.assert_allclose(found, np.array([x, y]) / depth * 64 - 0.5, atol=0.1)


def test_a_lens_that_folds_the_picture_is_refused() -> None:
    """Coefficients of other units."""
    wrong = replace(camera(), coefficients=(-60.0, 0.0, 0.0, 0.0))
    intrinsics = wrong.head_crop()
    assert intrinsics is not None
    with pytest.raises(ValueError, match="order of the pixels"):
        resample(np.zeros((500, 300, 1), np.float32), wrong, intrinsics, 64, (0.0,))
