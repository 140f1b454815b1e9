"""Conversion between cameras and transforms.json, the format of nerfstudio and instant-ngp.

In the file a camera looks along -z with y up (OpenGL axes) and intrinsics are in pixels; the world frame is unchanged,
y up.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.cameras import Cameras, is_rotation
from spinmeround.models.geometry.lens_fields import check_lens_fields
from spinmeround.models.geometry.lens_values import TOLERANCE, ReadLens
from spinmeround.models.geometry.transforms_schema import Frame, TransformsDocument

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV camera axes to OpenGL's, and back."""

MAX_PIXEL_ASPECT = 3.0
"""Largest ratio of fl_x and fl_y, far above that of a picture that was squeezed to a square."""

FOCAL_RANGE = 0.1, 1e6
"""Focal lengths in image sides: a field of view of 157 degrees, and an image of a point."""

MAX_COORDINATE = 1e6
"""Largest coordinate of a camera, far above heads in micrometres, and safe in float32."""


def transforms_json(
    cameras: Cameras, side: int, files: Sequence[str], more: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """The document for square images of this side, one file per camera; `more` holds further files per frame, by key.

    Raises ValueError if the number of files differs from the number of cameras.
    """
    others = dict(more or {})
    for name, paths in {"files": files, **others}.items():
        if len(paths) != len(cameras):
            raise ValueError(f"{name}: expected {len(cameras)}, one per camera, got {len(paths)}")
    pixels = cameras.intrinsics.astype(np.float64) * side
    frames = [
        {
            "file_path": file,
            **{key: paths[view] for key, paths in others.items()},
            "transform_matrix": (cameras.cam2world[view].astype(np.float64) @ FLIP).tolist(),
            "fl_x": float(pixels[view, 0, 0]),
            "fl_y": float(pixels[view, 1, 1]),
            "cx": float(pixels[view, 0, 2]),
            "cy": float(pixels[view, 1, 2]),
            "w": side,
            "h": side,
        }
        for view, file in enumerate(files)
    ]
    return {"camera_model": "OPENCV", "orientation_override": "none", "frames": frames}


def cameras_of_transforms(
    document: Mapping[str, Any],
    picture_side: Callable[[int], int | None] = lambda frame: None,
    *,
    distorted_too: bool = False,
) -> Cameras:
    """The cameras of a document's frames, in order; intrinsics may be per frame or at the top level.

    `picture_side` returns the side of a frame's picture in pixels, or None; it is asked where the file has no `w` and
    raises ValueError if the picture is not square.
    With `distorted_too` lenses may have a distortion: the cameras are those of the pictures after `undistorted`.

    Raises ValueError for fields that `TransformsDocument` refuses, missing intrinsics, images that are not square,
    principal points outside the image, and matrices that are not rigid.
    """

    def square(frame: int) -> tuple[int, int] | None:
        side = picture_side(frame)
        return None if side is None else (side, side)

    poses, lenses = frames_of_transforms(document, square, distorted_too=distorted_too)
    for number, lens in enumerate(lenses):
        if lens.size is not None and lens.size[0] != lens.size[1]:
            width, height = lens.size
            raise ValueError(f"frames[{number}]: expected a square image, got w {width:g} and h {height:g}")
    position = poses[:, :3, 3]
    radius = np.linalg.norm(position, axis=-1)
    return Cameras(
        cam2world=_float32(poses),
        intrinsics=_float32(np.stack([normalised_matrix(lens, number) for number, lens in enumerate(lenses)])),
        azimuth_deg=np.degrees(np.arctan2(position[:, 0], position[:, 2])).astype(np.float32),
        elevation_deg=np.degrees(np.arcsin(position[:, 1] / np.maximum(radius, 1e-12))).astype(np.float32),
    )


def frames_of_transforms(
    document: Mapping[str, Any],
    picture_size: Callable[[int], tuple[int, int] | None] = lambda frame: None,
    *,
    distorted_too: bool = False,
) -> tuple[Float64[np.ndarray, "frame 4 4"], list[ReadLens]]:
    """`cam2world` with OpenCV axes and the lens of each frame, of images of any size; as `cameras_of_transforms`.

    `picture_size` returns width and height of a frame's picture in pixels.
    """
    found = TransformsDocument.of(document, distorted_too=distorted_too)
    poses = np.stack([_pose(frame, number) for number, frame in enumerate(found.frames)])
    lenses = []
    for number, (frame, distortion) in enumerate(zip(found.frames, found.distortions(), strict=True)):
        stated = _stated_size(frame, found)
        size = stated or _floats(picture_size(number))
        intrinsics = _intrinsics(frame, found, f"frames[{number}]", size)
        lenses.append(ReadLens(intrinsics, size, stated is not None, distortion))
    check_lens_fields(document, lenses)
    return poses, lenses


def _floats(size: tuple[int, int] | None) -> tuple[float, float] | None:
    return None if size is None else (float(size[0]), float(size[1]))


def _float32(numbers: np.ndarray) -> np.ndarray:
    """Numbers beyond float32 become infinite, which `check_cameras` refuses."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _pose(frame: Frame, number: int) -> Float64[np.ndarray, "4 4"]:
    name, matrix = f"frames[{number}].transform_matrix", np.asarray(frame.transform_matrix, np.float64)
    if not np.allclose(matrix[3], [0.0, 0.0, 0.0, 1.0], rtol=0.0, atol=1e-6):
        transposed = np.allclose(matrix[:, 3], [0.0, 0.0, 0.0, 1.0], rtol=0.0, atol=1e-6)
        cause = "; the matrix looks transposed" if transposed else ""
        raise ValueError(f"{name}: expected the last row 0 0 0 1, got {frame.transform_matrix[3]}{cause}")
    with np.errstate(all="ignore"):
        rigid = bool(is_rotation(matrix[:3, :3]))
    if not rigid:
        raise ValueError(f"{name}: expected a rotation, got scale or reflection")
    if not np.abs(matrix).max() < MAX_COORDINATE:
        raise ValueError(f"{name}: expected a position of less than {MAX_COORDINATE:g}, got {matrix[:3, 3].tolist()}")
    pose: np.ndarray = matrix @ FLIP
    return pose


def _stated_size(frame: Frame, document: TransformsDocument) -> tuple[float, float] | None:
    """Width and height; an image of which one of them is stated is square."""
    width, height = frame.w or document.w, frame.h or document.h
    if width is None or height is None:
        side = width or height
        return None if side is None else (side, side)
    return width, height


def _intrinsics(
    frame: Frame, document: TransformsDocument, name: str, size: tuple[float, float] | None
) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy in widths and heights of the image, None if not stated.

    A frame's own values replace those of the document.
    """
    width, height = size or (None, None)
    x_lens = document if frame.fl_x is frame.camera_angle_x is None else frame
    y_lens = document if frame.fl_y is frame.camera_angle_y is None else frame
    fx, angle_x, fy, angle_y = x_lens.fl_x, x_lens.camera_angle_x, y_lens.fl_y, y_lens.camera_angle_y
    cx, cy = (getattr(document if getattr(frame, c) is None else frame, c) for c in ("cx", "cy"))
    in_pixels = any(value is not None for value in (fx, fy, cx, cy))
    if (fx is None and angle_x is None) or (size is None and in_pixels):
        return None
    aspect = 1.0 if size is None else size[0] / size[1]
    focal_x = _focal(fx, angle_x, width, name)
    focal_y = focal_x * aspect if fy is None and angle_y is None else _focal(fy, angle_y, height, name)
    _check_focal(focal_x, focal_y / aspect, (fx, fy, angle_x), width, name)
    places = ((cx, width), (cy, height))
    large = all(side is not None and side > 4 for side in (width, height))
    if large and all(place is None or 0 <= place <= 1 for place in (cx, cy)) and (cx or cy):
        raise ValueError(
            f"{name}: expected cx and cy in pixels, got {cx} and {cy} in an image of {_shown(size)}, which look like "
            f"shares of its side: multiply them by {_shown(size)}"
        )
    centre = [0.5 if place is None or side is None else place / side for place, side in places]
    if not all(0 < place < 1 for place in centre):
        raise ValueError(f"{name}: expected cx and cy inside the image of {_shown(size)} pixels, got {cx} and {cy}")
    return focal_x, focal_y, centre[0], centre[1]


def _shown(size: tuple[float, float] | None) -> str:
    """The side of a square image, or width and height."""
    width, height = size or (0, 0)
    return f"{width:g}" if width == height else f"{width:g} x {height:g}"


def normalised_matrix(lens: ReadLens, number: int) -> Float64[np.ndarray, "3 3"]:
    """Intrinsics in widths and heights of the image. Raises ValueError, which names the frame, if they are missing."""
    if lens.intrinsics is None:
        raise ValueError(f"frames[{number}]: expected w and fl_x (or camera_angle_x), in the frame or at the top level")
    fx, fy, cx, cy = lens.intrinsics
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _check_focal(
    focal_x: float,
    focal_y: float,
    given: tuple[float | None, float | None, float | None],
    side: float | None,
    name: str,
) -> None:
    """Raises ValueError for focal lengths, in image sides, that no lens has, or that differ: with what was `given`."""
    fx, fy, angle_x = given
    if not all(FOCAL_RANGE[0] <= focal <= FOCAL_RANGE[1] for focal in (focal_x, focal_y)):
        lengths = [f"{field} {value:g}" for field, value in (("fl_x", fx), ("fl_y", fy)) if value is not None]
        found = f"{' and '.join(lengths)} in an image of {side:g}" if lengths else f"camera_angle_x {angle_x:g}"
        raise ValueError(
            f"{name}: expected a focal length of {FOCAL_RANGE[0]:g} to {FOCAL_RANGE[1]:g} sides of the image, got "
            f"{found}; w, h, fl_x and fl_y are in pixels, angles in radians"
        )
    if not 1 / MAX_PIXEL_ASPECT <= focal_y / focal_x <= MAX_PIXEL_ASPECT:
        raise ValueError(
            f"{name}: expected square pixels (fl_x and fl_y about equal), got focal lengths of {focal_x:.4g} and "
            f"{focal_y:.4g} sides of the image"
        )


def _focal(pixels: float | None, angle: float | None, side: float | None, name: str) -> float:
    """Focal length in image sides from pixels or from the field of view in radians; where both are given they agree."""
    by_angle = None if angle is None else 1 / (2 * max(math.tan(angle / 2), 1e-300))
    by_pixels = None if pixels is None or side is None else pixels / side
    if by_pixels is None or by_angle is None:
        found = by_angle if by_pixels is None else by_pixels
        assert found is not None  # one of them is given
        return found
    if abs(by_pixels / by_angle - 1) > TOLERANCE:
        raise ValueError(
            f"{name}: expected a focal length in pixels that fits the field of view, got {pixels:g} where "
            f"{angle:g} radians of {side:g} pixels are {by_angle * side:g}"  # type: ignore[operator]
        )
    return by_pixels
