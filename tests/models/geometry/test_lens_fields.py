"""Fields by which other programs state a lens: those of a pinhole without distortion pass, others are refused."""

import copy
from typing import Any

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.distortion import distortions_of_transforms
from spinmeround.models.geometry.lens_fields import _TABLE, FIELDS, MAX_DEPTH, READ
from spinmeround.models.geometry.transforms import cameras_of_transforms, transforms_json
from spinmeround.models.geometry.transforms_schema import Lens

pytestmark = pytest.mark.fast


def document(*, blender: bool = False) -> dict[str, Any]:
    """Two frames of 64 pixels, with the focal length 272.94; of Blender with an angle alone."""
    made = transforms_json(ViewGrid(azimuths=2, elevations_deg=(0.0,)).cameras(), 64, ["a.png", "b.png"])
    if not blender:
        return made
    frames = [{"transform_matrix": frame["transform_matrix"], "file_path": "a"} for frame in made["frames"]]
    return {"camera_angle_x": 0.2334, "frames": frames}


PINHOLE = "expected a pinhole"
DISTORTION = "expected a lens without distortion"
PLACE = "expected the lens in the frame or at the top level"
SHUTTER = "expected a camera that does not move"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "projection type": ({"projection_type": "equirectangular"}, f"projection_type: {PINHOLE}"),
    "projection type of OpenSfM": ({"projection_type": "fisheye_opencv"}, f"projection_type: {PINHOLE}"),
    "projection type of XMP": ({"GPano:ProjectionType": "equirectangular"}, f"GPano:ProjectionType: {PINHOLE}"),
    "projection": ({"projection": "cylindrical"}, f"projection: {PINHOLE}"),
    "projection in an object": ({"projection": {"type": "stereographic"}}, f"projection.type: {PINHOLE}"),
    "model of COLMAP": ({"model": "OPENCV_FISHEYE"}, f"model: {PINHOLE}"),
    "model without its lens's name": ({"model": "FOV"}, f"model: {PINHOLE}"),
    "model in upper case": ({"CAMERA_MODEL": "OPENCV_FISHEYE"}, f"CAMERA_MODEL: {PINHOLE}"),
    "distortion model of ROS": ({"distortion_model": "equidistant"}, f"distortion_model: {PINHOLE}"),
    "omnidirectional": ({"cameraType": "OMNIDIRECTIONALSTEREO_L"}, f"cameraType: {PINHOLE}"),
    "fisheye objective": ({"LensModel": "EF 8-15mm f/4L Fisheye"}, f"LensModel: {PINHOLE}"),
    "spherical of OpenMVG": (
        {"intrinsics": [{"value": {"polymorphic_name": "spherical"}}]},
        f"intrinsics[0].value.polymorphic_name: {PINHOLE}",
    ),
    "Blender's orthographic type": ({"type": "ORTHO", "ortho_scale": 6.0}, f"type: {PINHOLE}"),
    "Blender's orthographic scale": ({"ortho_scale": 6.0}, f"ortho_scale: {PINHOLE}"),
    "Blender's panorama": ({"type": "PANO", "panorama_type": "MIRRORBALL"}, f"type: {PINHOLE}"),
    "Blender's shift": ({"shift_x": 0.1, "shift_y": 0.0}, "shift_x: expected 0, got 0.1; write the principal point"),
    "fisheye": ({"fisheye": True}, f"fisheye: {PINHOLE}"),
    "fisheye in camel case": ({"isFisheye": 1}, f"isFisheye: {PINHOLE}"),
    "f-theta": ({"ftheta_p1": 0.2}, f"ftheta_p1: {PINHOLE}"),
    "radial list": ({"radial_distortion": [0.1, 0.0]}, f"radial_distortion: {DISTORTION}"),
    "radial number": ({"radial_distortion": 0.1}, f"radial_distortion: {DISTORTION}"),
    "tangential": ({"tangential_distortion": [0.0, 0.1]}, f"tangential_distortion: {DISTORTION}"),
    "D of ROS": ({"D": [0.1, 0.0, 0.0, 0.0, 0.0]}, f"D: {DISTORTION}"),
    "D as a row of OpenCV": ({"D": [[0.1, 0.0, 0.0, 0.0, 0.0]]}, f"D: {DISTORTION}"),
    "k": ({"k": [0.1, 0.0, 0.0, 0.0]}, f"k: {DISTORTION}"),
    "dist": ({"dist": [0.1, 0.0, 0.0, 0.0]}, f"dist: {DISTORTION}"),
    "D as text": ({"D": "0.1 0 0 0 0"}, f"D: {DISTORTION}"),
    "dist_coeffs": ({"dist_coeffs": [[0.0], [0.1]]}, f"dist_coeffs: {DISTORTION}"),
    "distortion_coefficients": ({"distortion_coefficients": {"k1": 0.1}}, f"distortion_coefficients.k1: {PLACE}"),
    "text of a number": ({"distortion": "0.1"}, f"distortion: {DISTORTION}"),
    "text of a model": ({"distortion": "brown"}, f"distortion: {DISTORTION}"),
    "distortion is on": ({"distortion": True}, f"distortion: {DISTORTION}"),
    "parameters of AliceVision": ({"distortionParams": ["0.1"]}, f"distortionParams: {DISTORTION}"),
    "K1": ({"K1": 0.1}, f"K1: {PLACE}, as k1, got 0.1; write k1 there"),
    "k1 in an object": ({"distortion": {"k1": 0.1}}, f"distortion.k1: {PLACE}, as k1"),
    **{
        name: ({name: -0.3}, f"{name}: {PLACE}, as k1") for name in ("distortion_k1", "lens_distortion_k1", "radial_k1")
    },
    "k1 as text": ({"camera": {"k1": "0.1"}}, f"camera.k1: {PLACE}"),
    "key with a dot": ({"distortion.k1": 0.1}, f"distortion.k1: {PLACE}"),
    **{name: ({name: 0.1}, f"{name}: {DISTORTION}") for name in ("k7", "s1", "s2", "s3", "s4", "tau_x", "tau_y", "P3")},
    "Agisoft's B1": ({"B1": -1.5}, f"B1: {DISTORTION}"),
    "OpenMVG": ({"intrinsics": [{"data": {"disto_k3": [0.1, 0, 0]}}]}, f"intrinsics[0].data.disto_k3: {DISTORTION}"),
    "Matlab": ({"calibration": {"kc": [0.1, 0, 0, 0, 0]}}, f"calibration.kc: {DISTORTION}"),
    "cameras in a list": ({"cameras": [{"k1": 0.1}, {"k1": 0.2}]}, f"cameras[0].k1: {PLACE}"),
    "COLMAP in a list": (
        {"cameras": [{"model": "OPENCV", "params": [273, 273, 32, 32, 0.1, 0, 0, 0]}]},
        f"cameras[0].params: {PLACE}",
    ),
    "another focal length": ({"intrinsics": {"fl_x": 300.0}}, f"intrinsics.fl_x: {PLACE}, as fl_x"),
    "another focal length by another name": ({"fx": 300.0}, f"fx: {PLACE}, as fl_x"),
    "in upper case": ({"FL_X": 300.0}, f"FL_X: {PLACE}, as fl_x"),
    "another width": ({"camera": {"w": 128, "h": 64}}, f"camera.w: {PLACE}, as w"),
    "another centre": ({"principal_point": [30.0, 32.0]}, f"principal_point: {PLACE}, as cx and cy"),
    "centre of AliceVision": ({"principalPoint": {"x": "30", "y": "32"}}, f"principalPoint: {PLACE}, as cx and cy"),
    "matrix of OpenCV": (
        {"distortion_coefficients": {"rows": 1, "cols": 4, "data": [0.1, 0, 0, 0]}},
        f"distortion_coefficients: {DISTORTION}",
    ),
    "camera of three.js": ({"camera": {"type": "OrthographicCamera"}}, f"camera.type: {PINHOLE}"),
    "skewed K": ({"K": [[273, 2, 32], [0, 273, 32], [0, 0, 1]]}, "K: expected a lens without skew"),
    "skewed flat K by columns": ({"K": [273, 0, 0, 2, 273, 0, 32, 32, 1]}, "K: expected a lens without skew"),
    "another K": ({"K": [[300, 0, 32], [0, 300, 32], [0, 0, 1]]}, f"K: {PLACE}, as fl_x"),
    "an endless K": ({"K": [[10**400, 0, 32], [0, 300, 32], [0, 0, 1]]}, f"K: {PLACE}, as fl_x"),
    "intrinsics with coefficients": (
        {"intrinsics": [273, 273, 32, 32, 0.1]},
        f"intrinsics: {PLACE}, as fl_x, fl_y, cx, cy, k1",
    ),
    "another centre in K": ({"K": [[273, 0, 22], [0, 273, 42], [0, 0, 1]]}, f"K: {PLACE}, as fl_x, fl_y, cx and cy"),
    "another vertical focal length": ({"K": [273, 0, 32, 0, 410, 32, 0, 0, 1]}, f"K: {PLACE}, as fl_x"),
    "another K of ARKit": (
        {"cameraIntrinsics": [273, 0, 0, 0, 273, 0, 22, 42, 1]},
        f"cameraIntrinsics: {PLACE}, as fl_x",
    ),
    "another K of ROS": ({"K": {"rows": 3, "data": [273, 0, 22, 0, 273, 42, 0, 0, 1]}}, f"K: {PLACE}, as fl_x"),
    "another K in sides": ({"K": [[4.2647, 0, 0.3], [0, 4.2647, 0.5], [0, 0, 1]]}, f"K: {PLACE}, as fl_x"),
    "another K of 4 rows": (
        {"intrinsics": [[273, 0, 22, 0], [0, 273, 32, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
        f"intrinsics: {PLACE}, as fl_x",
    ),
    "another list": ({"intrinsics": [273, 273, 22, 42]}, f"intrinsics: {PLACE}, as fl_x"),
    "another list under K": ({"K": [273, 273, 22, 42]}, f"K: {PLACE}, as fl_x"),
    "K as text": ({"K": "300 0 22 0 300 42 0 0 1"}, f"K: {PLACE}, as fl_x"),
    "K as other text": ({"K": "see the paper"}, f"K: {PLACE}, as fl_x"),
    "K as rows of text": ({"K": ["273 0 22", "0 273 42", "0 0 1"]}, f"K: {PLACE}, as fl_x"),
    "u0": ({"u0": 22.0}, f"u0: {PLACE}, as cx"),
    "center_y": ({"center_x": 32, "center_y": 42}, f"center_y: {PLACE}, as cy"),
    "FISHEYE624": ({"camera_model_name": "FISHEYE624"}, f"camera_model_name: {PINHOLE}"),
    "name of a model": ({"camera": {"name": "OPENCV_FISHEYE"}}, f"camera.name: {PINHOLE}"),
    "name of a model for a camera": ({"camera": "OPENCV_FISHEYE"}, f"camera: {PINHOLE}"),
    "kind of a projection": ({"camera": {"projection": {"kind": "fisheye"}}}, f"camera.projection.kind: {PINHOLE}"),
    "one of two cameras": ({"cameras": [{"fx": 273}, {"model": "FISHEYE"}]}, f"cameras[1].model: {PINHOLE}"),
    "cameras by name": ({"cameras": {"a": {"fx": 300}}}, f"cameras.a.fx: {PLACE}, as fl_x"),
    "FoVx": ({"FoVx": 0.23}, "FoVx: expected the lens as fl_x in pixels"),
    "diagonal field of view": ({"dfov": 13.37}, "dfov: expected the lens as fl_x in pixels"),
    "field of view in an object": ({"camera": {"field_of_view": 20}}, "camera.field_of_view: expected the lens as"),
    "oblong pixels": ({"pixel_aspect_x": 2.0}, "pixel_aspect_x: expected square pixels"),
    "rolling shutter": ({"rolling_shutter_time": 0.03}, f"rolling_shutter_time: {SHUTTER}"),
    "rolling shutter in an object": ({"sensor": {"shutter": "Rolling"}}, f"sensor.shutter: {SHUTTER}"),
    "no end": ({"distortion": float("nan")}, f"distortion: {DISTORTION}"),
    "line break in a name": ({"k\n1": 0.1}, f"'k\\n1': {PLACE}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_lenses_are_refused(name: str) -> None:
    """At the top level, in a frame and in an object of a frame; the error begins with the field."""
    fields, message = REFUSED[name]
    for place in ("", "frames[1].", "frames[1].camera."):
        made = document()
        target = made if not place else made["frames"][1]
        target.update(copy.deepcopy(fields) if "camera." not in place else {"camera": copy.deepcopy(fields)})
        with pytest.raises(ValueError, match="expected ") as raised:
            cameras_of_transforms(made)
        assert str(raised.value).startswith(place + message), raised.value


ACCEPTED: dict[str, dict[str, Any]] = {
    **{f"distortion {value}": {"distortion": value} for value in ("none", "None", "off", "0.0", None, False, 0)},
    "distortion of zeros": {"distortion": [[0, 0]]},
    "empty distortion": {"distortion": [], "radial_distortion": {}, "D": [], "K1": None},
    "distortion in an object": {"distortion": {"k1": 0.0, "model": "brown"}},
    "nested zeros": {"camera": {"k1": 0.0, "K2": 0, "p1": None}},
    "all zero": {"K1": 0.0, "k7": 0, "s1": 0.0, "tau_x": 0.0, "tangential_distortion": [0.0, 0.0], "D": [0.0] * 5},
    "no parameters": {"distortion_params": "none"},
    "rows of parameters": {"distortion_params": [[0.0] * 6]},
    "Blender's camera": {
        "type": "PERSP",
        "ortho_scale": 6.0,
        "panorama_type": "FISHEYE_EQUISOLID",
        "fisheye_fov": 3.14,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "lens": 50.0,
        "sensor_width": 36.0,
        "sensor_fit": "AUTO",
        "pixel_aspect_x": 1.0,
        "pixel_aspect_y": 1.0,
    },
    "perspective": {"type": "perspective", "projection": "perspective", "projection_type": "brown"},
    "flags that are off": {"is_fisheye": False, "fisheye": False, "spherical": 0, "orthographic": None},
    "f-theta of zeros": {"ftheta_p0": 0.0, "ftheta_p1": 0.0},
    "names of products": {
        "model": "iPhone 12",
        "make": "Panasonic",
        "lens_model": "EF 24mm f/1.4 Aspherical",
        "D": "front door",
        "camera": {"model": "OmniVision OV5647", "name": "orthodontist"},
        "camera_label": "fisheye_left",
    },
    "names of generators": {"model": "PanoHead", "type": "SphereHead"},
    "k of something else": {"k": 8, "dist": 2.7, "d": None, "scores": {"s1": 0.2, "d": [1.0]}},
    "landmarks and boxes": {
        "landmarks": {"p1": [3.0, 4.0], "p2": [5.0, 6.0]},
        "bbox": {"x": 1, "y": 2, "w": 3, "h": 4},
        "camera": {"rotation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}},
        "crop": {"w": 10, "h": 10},
    },
    "nerfstudio": {
        "applied_transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
        "applied_scale": 0.5,
        "ply_file_path": "a",
        "blur_score": 12.5,
        "timestamp": 1.5,
        "is_bad": False,
        "depth_file_path": "a",
        "mask_path": "a",
        "scene_box": {"type": "sphere", "aabb": [[0, 0, 0], [1, 1, 1]]},
        "train_filenames": ["a.png"],
    },
    "instant-ngp": {
        "aabb_scale": 16,
        "scale": 0.33,
        "offset": [0.5, 0.5, 0.5],
        "sharpness": 30.0,
        "white_background": True,
        "driver_parameters": {"LightX": 1.0},
        "rolling_shutter": [0.0] * 4,
        "frame.name": "a",
        "n_frames": 2,
    },
    "EXIF": {"exif": {"FOV": "13.4 deg", "LensModel": "50mm", "ProjectionType": "rectilinear", "ImageWidth": 4000}},
    "Kubric": {
        "camera": {
            "focal_length": 153.5,
            "sensor_width": 36.0,
            "K": [[4.2647, 0, -0.5], [0, -4.2647, -0.5], [0, 0, -1]],
        }
    },
    "Record3D": {"K": [272.9408, 0, 0, 0, 272.9408, 0, 32, 32, 1]},
    "NeuS": {"intrinsics": [[272.9408, 0, 32, 0], [0, 272.9408, 32, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
    "OpenCV": {
        "camera_matrix": {"rows": 3, "cols": 3, "data": [272.9408, 0, 32, 0, 272.9408, 32, 0, 0, 1]},
        "distortion_coefficients": {"rows": 1, "cols": 4, "data": [0.0] * 4},
    },
    "K of nothing": {"K": [0, 0, 0, 0], "intrinsics": "intrinsics.txt"},
    "PyTorch3D": {"principal_point": [[0.0, 0.0]], "image_size": [64, 64], "in_ndc": True},
    "global shutter": {"rolling_shutter_time": 0, "shutter": "1/200", "sensor": {"shutter_type": "global"}},
    "box of a face": {"face_box": {"cx": 30, "cy": 31, "w": 20, "h": 25}, "bbox": {"cx": 3, "width": 4, "height": 5}},
    "camera of the depth": {"depth_camera": {"fx": 136.5, "cx": 16, "width": 32}, "depth": {"fl_x": 200, "w": 192}},
    "before a crop": {
        "original": {"w": 1920, "h": 1080, "fl_x": 1600, "cx": 960, "k1": 0.1},
        "arkit": {"cameraIntrinsics": [1600, 0, 0, 0, 1600, 0, 960, 720, 1]},
        "polycam": {"fx": 1600.2, "cx": 512.1, "width": 1024},
        "colmap": {"cameras": [{"model": "OPENCV", "params": [1600, 1600, 960, 540, 0.01, 0, 0, 0]}]},
        "original_camera": {"w": 1920, "model": "OPENCV_FISHEYE"},
    },
    "rounded": {"intrinsics": {"fx": 272.941, "fy": 273.5}, "fx": 272.9, "principal_point": [32.1, 32]},
    "in sides": {"intrinsics": [4.265, 4.265, 0.5, 0.5], "principal_point": [0.5, 0.5], "u0": 32.0, "v0": 32.0},
    "K by columns": {"cameraIntrinsics": [273, 0, 0, 0, 273, 0, 32, 32, 1]},
    "K as text": {"K": "[[272.94, 0., 32.],\n [0., 272.94, 32.], [0., 0., 1.]]"},
    "rounded zeros": {
        "K": [[272.941, 1e-15, 32], [0, 272.941, 32], [0, 0, 1]],
        "D": [1e-18, 0, 0, 0, 0],
        "distortion": [-1e-17],
        "K1": 1e-18,
        "skew": 1e-12,
        "pixel_aspect": 1.0000001,
    },
    "statistics": {"stats": {"skew": 0.2}, "metrics": {"distortion": 0.002}, "scene": {"k1": 0.1}},
    "short names": {"dist": [2.7], "d": [0, 0, -1], "k": [1, 2, 3]},
    "rotations": {
        "camera_rotation": {"w": 0.7, "i": 0, "j": 0, "k": 0.7},
        "camera": {"w": 0.7, "x": 0.1, "y": 0, "z": 0.7},
        "camera_matrix": [[0.6, -0.8, 0, 0.1], [0.8, 0.6, 0, 0.2], [0, 0, 1, 2.7], [0, 0, 0, 1]],
    },
    "rows of a pose": {"camera_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2.7]]},
    "optical flow": {"optical_flow": {"w": 640, "h": 480, "type": "raft"}},
    "dual lens": {"lens": "dual", "camera": {"name": "fisheye_left", "lens": "dual"}},
    "rolling shutter that is off": {"rolling_shutter": {"enabled": False, "readout_time": 0.03}},
    "no distortion": {"distortion": {"enabled": False, "k1": 0.1}, "lens_distortion": "no distortion"},
    "Blender's cycles": {
        "camera": {"type": "PERSP", "cycles": {"panorama_type": "FISHEYE_EQUISOLID", "fisheye_fov": 3.14}}
    },
    "the same field of view": {"fov": 13.37, "camera": {"fov_x": 0.2334, "camera_angle_x": 0.2334}},
    "parameters of COLMAP": {
        "cameras": [{"id": 1, "model": "SIMPLE_RADIAL", "width": 64, "height": 64, "params": [272.94, 32, 32, 0]}],
        "params": [272.94, 272.94, 32, 32],
    },
    "matrices": {"projection_matrix": [[4, 0, 0, 0], [0, 4, 0, 0], [0, 0, -1, -1], [0, 0, -1, 0]], "width": 640},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_pinholes_and_other_fields_are_accepted(name: str) -> None:
    """At the top level, in a frame and in an object of a frame; the cameras are the same."""
    for where in ("top", "frame", "nested"):
        made = document()
        expected = cameras_of_transforms(made)
        fields = copy.deepcopy(ACCEPTED[name])
        target = made if where == "top" else made["frames"][1]
        target.update({"camera": fields} if where == "nested" else fields)
        np.testing.assert_array_equal(cameras_of_transforms(made).intrinsics, expected.intrinsics)


def test_some_names_count_in_cameras_only() -> None:
    """A frame's name and its coefficients may be of anything."""
    made = document()
    made["frames"][1] |= {"name": "fisheye", "kind": "panorama", "coefficients": [0.3] * 4}
    cameras_of_transforms(made)


def test_a_lens_may_be_stated_again() -> None:
    """Numbers equal to those of the frame, or of the top level, pass."""
    made = document()
    frame = made["frames"][0]
    again = {name: frame[name] for name in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    frame["camera"] = {"intrinsics": again, "model": "PINHOLE"}
    frame |= {"fx": frame["fl_x"], "principal_point": [32, 32]}
    frame |= {"transform_matrix_start": frame["transform_matrix"]}
    cameras_of_transforms(made)
    frame["transform_matrix_end"] = np.eye(4).tolist()
    with pytest.raises(ValueError, match=rf"^frames\[0\].transform_matrix_end: {SHUTTER}"):
        cameras_of_transforms(made)


@pytest.mark.parametrize("place", ["top", "frame"])
@pytest.mark.parametrize(
    "fields",
    [
        {"K": [[273, 0, 32], [0, 273, 32], [0, 0, 1]]},
        {"intrinsics": {"fx": 273, "fy": 273, "cx": 32, "cy": 32}},
        {"principal_point": [32, 32]},
        {"W": 64, "H": 64, "width": 64, "height": 64},
    ],
)
def test_what_is_left_out_agrees_too(place: str, fields: dict[str, Any]) -> None:
    """The focal length is that of `camera_angle_x`, the centre the middle, and the side that of the picture."""
    for native in ({"camera_angle_x": 0.2334}, {"fl_x": 272.94}):
        made = document(blender=True)
        del made["camera_angle_x"]
        made |= native
        (made if place == "top" else made["frames"][0]).update(copy.deepcopy(fields))
        cameras_of_transforms(made, lambda frame: 64)
        with pytest.raises(ValueError, match=f": {PLACE}"):
            cameras_of_transforms(made | {"camera_angle_x": 0.4, "fl_x": 78.93}, lambda frame: 32)


@pytest.mark.parametrize("field", ["K", "width", "H"])
def test_another_lens_beside_an_angle_is_refused(field: str) -> None:
    """A matrix of another focal length, and a size that is not the picture's."""
    value = [[546, 0, 32], [0, 546, 32], [0, 0, 1]] if field == "K" else 128
    with pytest.raises(ValueError, match=f"^{field}: {PLACE}"):
        cameras_of_transforms({**document(blender=True), field: value}, lambda frame: 64)


def test_each_frame_has_one_of_the_cameras() -> None:
    """By its id, or without ids any camera that agrees; unused ones pass."""
    made = document()
    made["frames"][1] |= {"fl_x": 300.0, "fl_y": 300.0}
    made["cameras"] = [{"id": 1, "fx": 273}, {"id": 2, "fx": 300}, {"id": 3, "fx": 900, "k1": 0.1}]
    cameras_of_transforms(made)
    for number, frame in enumerate(made["frames"]):
        frame["camera_id"] = number + 1
    cameras_of_transforms(made)
    cameras_of_transforms(made | {"cameras": {"1": {"fx": 273}, "2": {"fx": 300}, "3": {"model": "FISHEYE"}}})
    made["frames"][1]["camera_id"] = 1
    with pytest.raises(ValueError, match=rf"^cameras\[0\].fx: {PLACE}, as fl_x, got 273"):
        cameras_of_transforms(made)


def test_coefficients_may_be_stated_again() -> None:
    """Where pictures are to be undistorted, another name may hold the coefficient that is read."""
    made = {**document(), "k1": 0.1, "distortion_k1": 0.1, "camera": {"K1": 0.1}}
    cameras_of_transforms(made, distorted_too=True)
    with pytest.raises(ValueError, match=f"^distortion_k1: {PLACE}, as k1"):
        cameras_of_transforms(made | {"distortion_k1": 0.2}, distorted_too=True)


@pytest.mark.parametrize("field", ["k1", "k4", "distortion_params"])
def test_rounded_zeros_are_no_distortion(field: str) -> None:
    """Of the fields that are read, too."""
    made = {**document(), field: [1e-18] * 6 if field == "distortion_params" else 1e-18}
    cameras_of_transforms(made)
    assert distortions_of_transforms(made) == [None, None]


def test_frames_that_are_not_read_have_lenses_of_their_own() -> None:
    """As those that ScanNet++ tests on."""
    cameras_of_transforms({**document(), "test_frames": [{"file_path": "c.png", "fl_x": 900.0, "k1": 0.1}]})


def test_a_width_is_needed_for_pixels_only() -> None:
    """`width` is not read: where lengths are in pixels it must be `w`."""
    angle = document(blender=True)
    cameras_of_transforms({**angle, "width": 800, "height": 800})
    with pytest.raises(ValueError, match=f"^width: {PLACE}, as w, got 800"):
        cameras_of_transforms({"fl_x": 273.0, "width": 800, "frames": angle["frames"]})


@pytest.mark.parametrize("build", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: [{"a": inner}]])
def test_the_depth_is_limited(build) -> None:
    """A document that Python could not walk is refused by the name of its field; one of a few levels is read."""
    for levels, refused in ((MAX_DEPTH // 2 - 2, False), (300, True), (20_000, True)):
        inner: Any = 0.0
        for _ in range(levels):
            inner = build(inner)
        made = {**document(), "distortion": inner}
        if refused:
            with pytest.raises(ValueError, match=f"^distortion.*: expected .* at most {MAX_DEPTH} levels"):
                cameras_of_transforms(made)
        else:
            cameras_of_transforms(made)


def test_the_table_knows_what_is_read() -> None:
    """Its names are squeezed, and the fields of `Lens` are those that it leaves out."""
    assert set(Lens.model_fields) == READ
    assert all(name.isalnum() and name == name.lower() for name in FIELDS)
    assert len(FIELDS) == sum(len(names.split()) for _, names in _TABLE)
