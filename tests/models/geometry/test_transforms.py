import json

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid, orbit
from spinmeround.models.geometry.transforms import cameras_of_transforms, transforms_json

pytestmark = pytest.mark.fast


def document(views: int = 3) -> dict:
    cameras = ViewGrid(azimuths=views, elevations_deg=(20.0,)).cameras()
    return transforms_json(cameras, 64, [f"view-{i}.png" for i in range(views)])


def test_round_trip() -> None:
    """Cameras are unchanged after writing to JSON and reading, including their angles."""
    cameras = ViewGrid(azimuths=5).cameras()
    written = json.dumps(transforms_json(cameras, 96, [f"{i}.png" for i in range(len(cameras))]))
    read = cameras_of_transforms(json.loads(written))
    np.testing.assert_allclose(read.cam2world, cameras.cam2world, atol=1e-6)
    np.testing.assert_allclose(read.intrinsics, cameras.intrinsics, atol=1e-6)
    np.testing.assert_allclose((read.azimuth_deg - cameras.azimuth_deg + 180) % 360 - 180, 0, atol=1e-4)
    np.testing.assert_allclose(read.elevation_deg, cameras.elevation_deg, atol=1e-4)


def test_the_frontal_camera() -> None:
    """At z = 2.7 with x right, y up and looking along -z, its rotation is OpenGL's identity; intrinsics are in
    pixels."""
    made = transforms_json(orbit([0.0], [0.0]), 512, ["a.png"], {"normals_file_path": ["b.png"]})["frames"][0]
    expected = np.eye(4)
    expected[2, 3] = 2.7
    np.testing.assert_allclose(made["transform_matrix"], expected, atol=1e-6)
    assert made["fl_x"] == pytest.approx(4.2647 * 512)
    assert (made["cx"], made["cy"], made["w"], made["h"]) == (256.0, 256.0, 512, 512)
    assert (made["file_path"], made["normals_file_path"]) == ("a.png", "b.png")


def test_top_level_intrinsics_and_angles_are_read() -> None:
    """The format of instant-ngp: camera_angle_x and w at the top level."""
    full = document()
    lens = {"w": 64, "h": 64, "camera_angle_x": 2 * np.arctan(1 / (2 * 4.2647))}
    bare = [{"transform_matrix": frame["transform_matrix"]} for frame in full["frames"]]
    np.testing.assert_allclose(
        cameras_of_transforms({**lens, "frames": bare}).intrinsics, cameras_of_transforms(full).intrinsics, atol=1e-6
    )


def test_an_angle_needs_no_width() -> None:
    """The form of Blender's scenes: `camera_angle_x` alone; the side of the picture is asked for pixels only."""
    full = document()
    bare = [{"transform_matrix": frame["transform_matrix"]} for frame in full["frames"]]
    angle = {"camera_angle_x": 2 * np.arctan(1 / (2 * 4.2647)), "frames": bare}
    expected = cameras_of_transforms(full).intrinsics
    np.testing.assert_allclose(cameras_of_transforms(angle).intrinsics, expected, atol=1e-6)
    pixels = {"fl_x": 4.2647 * 64, "cx": 32.0, "frames": bare}
    np.testing.assert_allclose(cameras_of_transforms(pixels, lambda frame: 64).intrinsics, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"frames\[0\]: expected w and fl_x"):
        cameras_of_transforms(pixels)


def test_fields_that_state_a_pinhole_are_accepted() -> None:
    """Flags that are off, coefficients that are zero, and the names of objectives."""
    made = document()
    more = {"latlong": False, "is_fisheye": False, "camera_type": "perspective", "lens": "50mm f/1.4", "b1": 0.0}
    more |= {"rolling_shutter": [0.0] * 4, "camera": {"make": "Nikon"}}
    found = cameras_of_transforms({**made, **more, "distortion": [0, 0.0]})
    np.testing.assert_array_equal(found.intrinsics, cameras_of_transforms(made).intrinsics)


def test_a_frames_lens_replaces_the_documents() -> None:
    """Either form of the focal length in a frame replaces either form at the top level; zero distortion is none."""
    full = document()
    top = {"camera_angle_x": 0.6, "w": 64, "k1": 0.0, "camera_model": "SIMPLE_RADIAL", "frames": full["frames"]}
    np.testing.assert_allclose(cameras_of_transforms(top).intrinsics, cameras_of_transforms(full).intrinsics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(latlong=True), "^latlong: expected a pinhole .* got latlong; render or resample"),
        (lambda d: d.update(orthographic=True), "^orthographic: expected a pinhole .* got orthographic"),
        (
            lambda d: d["frames"][1].update(equirectangular=True),
            r"^frames\[1\].equirectangular: expected a pinhole .* got equirectangular",
        ),
        (lambda d: d.update(ftheta_p0=0.0, ftheta_p1=0.2), "^ftheta_p1: expected a pinhole .* got ftheta_p1"),
        (lambda d: d.update(camera_type="fisheye"), "^camera_type: expected a pinhole .* got fisheye"),
        (lambda d: d.update(rolling_shutter=[0, 0, 0.03, 0]), "^rolling_shutter: expected a camera that does not move"),
        (
            lambda d: d["frames"][1].update(x_fov=26.8),
            r"^frames\[1\].x_fov: expected the lens as fl_x .* got x_fov 26.8",
        ),
        (lambda d: d.update(camera={"k1": 0.3}), "^camera.k1: expected the lens in the frame or at the top level"),
        (lambda d: d["frames"][0].update(params={"fov": 30}), r"^frames\[0\].params.fov: expected the lens as fl_x"),
        (lambda d: d.update(distortion=[0.0, 0.1]), r"^distortion: expected a lens without .* got \[0.0, 0.1\]"),
        (
            lambda d: d["frames"][1].update(cx=0.5, cy=0.5),
            r"^frames\[1\]: expected cx and cy in pixels, got 0.5 and 0.5 in an image of 64, .* multiply them by 64",
        ),
        (
            lambda d: d["frames"][1].update(fl_x=4.26, fl_y=4.26),
            r"^frames\[1\]: expected a focal length of 0.1 to 1e\+06 sides .* fl_x 4.26 and .* in an image of 64",
        ),
        (
            lambda d: d["frames"][1].update(fl_y=2729.0),
            r"^frames\[1\]: expected square pixels .*, got focal lengths of 4.265 and 42.64 sides",
        ),
        (lambda d: d["frames"][0].update(fl_x=1e308, fl_y=1e308), r"^frames\[0\]: .* got fl_x 1e\+308 and"),
        (lambda d: d["frames"][0].update(w=1e300, h=1e300), r"^frames\[0\]: .* in an image of 1e\+300"),
        (
            lambda d: d.update(camera_angle_x=1e-300, frames=[{"transform_matrix": np.eye(4).tolist()}]),
            r"^frames\[0\]: expected a focal length .* got camera_angle_x 1e-300",
        ),
        (lambda d: d.pop("frames"), "frames: expected a list of one or more frames, got none"),
        (lambda d: d["frames"][1].pop("transform_matrix"), r"frames\[1\].transform_matrix: expected 4 rows"),
        (lambda d: d["frames"][0].update(transform_matrix=np.diag([2, 2, 2, 1]).tolist()), "got scale or reflection"),
        (lambda d: d["frames"][0].update(transform_matrix=np.diag([-1, 1, 1, 1]).tolist()), "scale or reflection"),
        (lambda d: d["frames"][2].update(h=32, cy=16.0), r"frames\[2\]: expected a square image, got w 64 and h 32"),
        (lambda d: d["frames"][0].pop("fl_x"), r"frames\[0\]: expected w and fl_x"),
        (lambda d: d["frames"][0].update(fl_x=0), r"frames\[0\].fl_x: expected a number above 0, got 0"),
        (lambda d: d["frames"][0].update(fl_y=-3.0), r"frames\[0\].fl_y: expected a number above 0, got -3.0"),
        (lambda d: d["frames"][1].update(w="wide"), r"frames\[1\].w: expected a number above 0, got 'wide'"),
        (lambda d: d["frames"][1].update(cx=float("nan")), r"frames\[1\].cx: expected a number, got nan"),
        (lambda d: d.update(frames=["a"]), r"frames\[0\].transform_matrix: expected 4 rows"),
        (lambda d: d["frames"][0].update(fl_x=True), r"frames\[0\].fl_x: expected a number above 0, got True"),
        (lambda d: d["frames"][0].update(fl_x=10**400), r"frames\[0\].fl_x: expected a number above 0, got 1000"),
        (lambda d: d.update(k1=0.1), "k1: expected a lens without distortion, got k1 0.1; give --undistort"),
        (lambda d: d.update(camera_model="OPENCV_FISHEYE"), "camera_model: expected a pinhole .* got OPENCV_FISHEYE"),
        (lambda d: d["frames"][1].update(camera_model="VR180_L"), r"frames\[1\].camera_model: expected a pinhole"),
        (lambda d: d.update(is_fisheye=True), "^is_fisheye: expected a pinhole .* got a fisheye"),
        (lambda d: d.update(camera_angle_x=13.4), "expected radians, below pi, got 13.4, .* degrees: write 0.233874"),
        (lambda d: d.update(camera_angle_x=400.0), "camera_angle_x: expected radians, below pi, got 400$"),
        (lambda d: d["frames"][0].update(camera_angle_x=0.6), r"frames\[0\]: expected a focal length .* fits"),
        (lambda d: d["frames"][2].update(cx=1e6), r"frames\[2\]: expected cx and cy inside the image of 64 pixels"),
        (lambda d: d["frames"][2].update(cy=-1.0), r"frames\[2\]: expected cx and cy inside the image"),
        (lambda d: d["frames"][0]["transform_matrix"].__setitem__(3, [0, 0, 0, 2]), "the last row 0 0 0 1, got"),
        (
            lambda d: d["frames"][0].update(transform_matrix=np.transpose(d["frames"][0]["transform_matrix"]).tolist()),
            "the matrix looks transposed",
        ),
        (lambda d: d["frames"][0]["transform_matrix"][0].__setitem__(3, 1e30), "expected a position of less than"),
        (
            lambda d: d["frames"][0]["transform_matrix"][0].__setitem__(0, "1"),
            r"frames\[0\].transform_matrix: expected",
        ),
    ],
    ids=[
        "latitude and longitude",
        "orthographic",
        "equirectangular in a frame",
        "f-theta",
        "camera type",
        "rolling shutter",
        "another program's field of view",
        "nested distortion",
        "nested field of view",
        "another program's distortion",
        "normalised centre",
        "normalised lens",
        "oblong pixels",
        "endless lens",
        "endless width",
        "tiny angle",
        "no frames",
        "no matrix",
        "scaled",
        "mirrored",
        "not square",
        "no focal length",
        "zero focal length",
        "negative",
        "text",
        "NaN",
        "no frame",
        "flag",
        "400 digits",
        "distortion",
        "fisheye",
        "other lens in a frame",
        "fisheye of instant-ngp",
        "degrees",
        "neither radians nor degrees",
        "two focal lengths",
        "principal point",
        "negative principal point",
        "last row",
        "transposed",
        "position",
        "text in a matrix",
    ],
)
def test_invalid_cameras_are_refused(change, message: str) -> None:
    """The error names the frame and the field."""
    made = document()
    change(made)
    with pytest.raises(ValueError, match=message):
        cameras_of_transforms(made)
    with pytest.raises(ValueError, match="files: expected 1, one per camera, got 2"):
        transforms_json(orbit([0.0], [0.0]), 8, ["a", "b"])
