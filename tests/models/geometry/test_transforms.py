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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("frames"), "frames: expected a list of one or more frames, got none"),
        (lambda d: d["frames"][1].pop("transform_matrix"), r"frames\[1\].transform_matrix: expected 4 rows"),
        (lambda d: d["frames"][0].update(transform_matrix=np.diag([2, 2, 2, 1]).tolist()), "got scale or reflection"),
        (lambda d: d["frames"][0].update(transform_matrix=np.diag([-1, 1, 1, 1]).tolist()), "scale or reflection"),
        (lambda d: d["frames"][2].update(h=32), r"frames\[2\]: expected a square image, got w 64 and h 32"),
        (lambda d: d["frames"][0].pop("fl_x"), r"frames\[0\]: expected w and fl_x"),
        (lambda d: d["frames"][0].update(fl_x=0), r"frames\[0\].fl_x: expected a number above 0, got 0"),
        (lambda d: d["frames"][0].update(fl_y=-3.0), r"frames\[0\].fl_y: expected a number above 0, got -3.0"),
        (lambda d: d["frames"][1].update(w="wide"), r"frames\[1\].w: expected a number above 0, got 'wide'"),
        (lambda d: d["frames"][1].update(cx=float("nan")), r"frames\[1\].cx: expected a number, got nan"),
        (lambda d: d.update(frames=["a"]), r"frames\[0\].transform_matrix: expected 4 rows"),
    ],
    ids=[
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
