"""What a field of a lens may say: nothing (null, off, zero, empty, "none"), a pinhole, or the numbers that are read.

A check is called with the field's full name, its value and its object, and raises ValueError for anything else.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.cameras import is_rotation
from spinmeround.models.geometry.lens_values import (
    COEFFICIENTS,
    TOLERANCE,
    ReadLens,
    numbers,
    some,
    squeezed,
    states_nothing,
)
from spinmeround.storage.errors import printable, shortened

PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL")
"""Camera models that are a pinhole where their distortion is zero."""

_NO_PINHOLE = re.compile(
    r"fish[-_ ]?eye|equi[-_ ]?(?:rect|dist|solid|angular)|(?<!a)spherical|pano(?![a-z])|panoram|ortho(?![a-z])"
    r"|orthograph|orthogonal|orthophoto|omni(?![a-z])|omnidir|lat[-_ ]?long|cylindr|f[-_ ]?theta|vr[-_ ]?180"
    r"|stereograph|mercator|cube[-_ ]?map|kannala|catadioptric|double[-_ ]?sphere|anamorph|mirror[-_ ]?ball",
    re.IGNORECASE,
)
_SHORT = re.compile(r"fov|e?ucm|c?mei|ds|kb\d?|unified|(?:simple_)?division|parallel|isometric", re.IGNORECASE)
_FILE_NAME = re.compile(r".*\.[a-z]\w*", re.IGNORECASE)
_SHAPES = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
_LENGTHS = (4, 5, 8, 12, 14)
_POINT = ("fl_x", "fl_y", "cx", "cy")


class LensObject(NamedTuple):
    """An object of a camera, for a frame with this lens; `camera_id` is what the frame says, if it does.

    `read` is whether `Lens` reads it: the document or a frame. `kinds` is whether the kind of the lens is checked, or
    its numbers.
    """

    name: str
    fields: Mapping[str, Any]
    read: bool
    lens: ReadLens
    camera_id: str | None
    kinds: bool


Check = Callable[[str, Any, LensObject], None]


def check_kind(field: str, value: Any, place: LensObject) -> None:
    """The name of a projection or a camera model; others, as the name of a product, say nothing."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and (_NO_PINHOLE.search(text) or _SHORT.fullmatch(text.strip())):
            raise no_pinhole(field, text)


def check_name(field: str, value: Any, place: LensObject) -> None:
    """A name that may be that of a camera model, as OPENCV_FISHEYE, or a label, as fisheye_left."""
    found = list(_NO_PINHOLE.finditer(value)) if isinstance(value, str) else []
    if found and re.fullmatch("[a-z]*[0-9]*", value[found[-1].end() :].strip(), re.IGNORECASE):
        raise no_pinhole(field, value)


def check_flag(field: str, value: Any, place: LensObject) -> None:
    """A flag or a parameter of another lens."""
    if not states_nothing(value):
        name = field.split(".")[-1]
        raise no_pinhole(field, name if value is True else f"{name} {_shown(value)}")


def unless_perspective(check: Check) -> Check:
    """A check of what Blender writes of every camera, and a perspective one does not use."""

    def checked(field: str, value: Any, place: LensObject) -> None:
        kinds = [each for name, each in place.fields.items() if squeezed(name) in ("type", "projection", "cameratype")]
        if not any(isinstance(kind, str) and kind.lower() in ("persp", "perspective") for kind in kinds):
            check(field, value, place)

    return checked


def check_distortion(field: str, value: Any, place: LensObject) -> None:
    """Coefficients in any order; those in an object that have a name are checked by it."""
    if some(numbers(value)) if isinstance(value, Mapping) else not states_nothing(value):
        raise _distorted(field, value)


def check_coefficients(field: str, value: Any, place: LensObject) -> None:
    """As many coefficients as OpenCV has, under a short name whose other values are something else."""
    if isinstance(value, Mapping | list | str) and len(numbers(value)) in _LENGTHS:
        check_zero(field, value, place)


def check_zero(field: str, value: Any, place: LensObject) -> None:
    """A coefficient that is not among `COEFFICIENTS`."""
    if some(numbers(value)):
        raise _distorted(field, value)


def check_shift(field: str, value: Any, place: LensObject) -> None:
    """A principal point in other units."""
    if some(numbers(value)):
        raise ValueError(
            f"{field}: expected 0, got {_shown(value)}; write the principal point as cx and cy in pixels and remove "
            f"{field}"
        )


def same_as(native: str) -> Check:
    """A check of a number that `Lens` reads elsewhere, by the name `native`."""

    def checked(field: str, value: Any, place: LensObject) -> None:
        found = numbers(value)
        no_size = native in ("w", "h") and all(abs(number) <= 1 for number in found)  # of a quaternion
        if some(found) and not no_size and not (len(found) == 1 and place.lens.agrees(native, *found)):
            raise _elsewhere(field, native, value)

    return checked


def size_of(native: str) -> Check:
    """A check of the size of a picture, which is that of the image unless the file says so by `native`."""

    def checked(field: str, value: Any, place: LensObject) -> None:
        if place.read and not place.lens.sized:
            same_as(native)(field, value, place)

    return checked


def check_centre(field: str, value: Any, place: LensObject) -> None:
    """A principal point, as a list or with x and y."""
    found = numbers(list(value.values()) if isinstance(value, Mapping) else value)
    agree = len(found) == 2 and place.lens.agrees("cx", found[0]) and place.lens.agrees("cy", found[1])
    if some(found) and not agree:
        raise _elsewhere(field, "cx and cy", value)


def check_matrix(field: str, value: Any, place: LensObject) -> None:
    """Intrinsics as a matrix, by rows or columns, or as a list with coefficients; a rotation is that of a pose."""
    found = numbers(value)
    shape = _SHAPES.get(len(found))
    unread = isinstance(value, str) and not (found or states_nothing(value) or _FILE_NAME.fullmatch(value))
    if not unread and (not isinstance(value, Mapping | list | str) or not some(found)):
        return
    readings = [(found[:4], found[4:]), ([*found[:1], *found[:3]], found[3:])]  # of f, cx, cy too
    for matrix in [] if shape is None else [np.reshape(found, shape), np.reshape(found, shape[::-1]).T]:
        with np.errstate(all="ignore"):
            if is_rotation(matrix[:3, :3]):
                return
            readings.append(_of_matrix(matrix))
    rests = [rest for four, rest in readings if len(four) == 4 and all(map(place.lens.agrees, _POINT, four))]
    if rests and shape is not None and all(map(some, rests)):
        raise ValueError(
            f"{field}: expected a lens without skew or distortion, got {_shown(value)}; resample the pictures"
        )
    if all(map(some, rests)):
        raise _elsewhere(field, "fl_x, fl_y, cx, cy, k1, k2, p1 and p2" if rests else "fl_x, fl_y, cx and cy", value)


def _of_matrix(matrix: Float64[np.ndarray, "rows columns"]) -> tuple[list[float], list[float]]:
    """fx, fy, cx, cy, and in focal lengths what is zero beside them; a camera that looks along -z has negative ones."""
    used = np.zeros(matrix.shape, bool)
    used[[0, 1, 0, 1, 2], [0, 1, 2, 2, 2]] = used[3:, 3:] = True
    scaled = matrix / matrix[2, 2]
    rest = scaled[~used] / scaled[0, 0]
    return [*np.abs(scaled[[0, 1], [0, 1]]).tolist(), *scaled[:2, 2].tolist()], rest.tolist()


def check_k(field: str, value: Any, place: LensObject) -> None:
    """The matrix K, or the coefficients k of a distortion."""
    is_matrix = field.endswith("K") or len(numbers(value)) in _SHAPES
    (check_matrix if is_matrix else check_coefficients)(field, value, place)


def check_parameters(field: str, value: Any, place: LensObject) -> None:
    """COLMAP's numbers of a camera."""
    if isinstance(value, list) and some(numbers(value)):
        check_matrix(field, value, place)


def check_angle(field: str, value: Any, place: LensObject) -> None:
    """A field of view, which may be that of the sides but not of the diagonal."""
    found = [] if squeezed(field).startswith("d") else numbers(value)
    agrees = bool(found) and all(place.lens.agrees("camera_angle_x", each) for each in found)
    if not isinstance(value, Mapping) and not states_nothing(value) and not agrees:
        name = field.split(".")[-1]
        raise ValueError(
            f"{field}: expected the lens as fl_x in pixels or camera_angle_x in radians, got {name} {_shown(value)}; "
            f"write one of these in the frame or at the top level and remove {name}"
        )


def check_square(field: str, value: Any, place: LensObject) -> None:
    """The ratio of the sides of a pixel."""
    if not all(abs(number - 1) <= TOLERANCE for number in numbers(value)):
        raise ValueError(f"{field}: expected square pixels, 1, got {_shown(value)}; resample the pictures")


def check_shutter(field: str, value: Any, place: LensObject) -> None:
    """A flag or the times of a rolling shutter."""
    if not states_nothing(value):
        raise _moving(field, value)


def check_shutter_kind(field: str, value: Any, place: LensObject) -> None:
    """The name of a shutter; others, as the time of an exposure, say nothing."""
    if isinstance(value, str) and "rolling" in value.lower():
        raise _moving(field, value)


def check_still(field: str, value: Any, place: LensObject) -> None:
    """The pose at the start or the end of the exposure."""
    if value is not None and value != place.fields.get("transform_matrix"):
        raise _moving(field, value)


def no_pinhole(field: str, lens: str) -> ValueError:
    """The error about a lens that is no pinhole."""
    return ValueError(
        f"{field}: expected a pinhole ({', '.join(PINHOLES[:3])}, or OPENCV without distortion), got "
        f"{printable(lens, 80)}; render or resample the pictures with a pinhole camera"
    )


def _distorted(field: str, value: Any) -> ValueError:
    return ValueError(
        f"{field}: expected a lens without distortion, or the coefficients {', '.join(COEFFICIENTS[:5])} by name in "
        f"the frame or at the top level, got {_shown(value)}; write these, or undistort the pictures and remove {field}"
    )


def _elsewhere(field: str, native: str, value: Any) -> ValueError:
    return ValueError(
        f"{field}: expected the lens in the frame or at the top level, as {native}, got {_shown(value)}; write "
        f"{native} there and remove {field}"
    )


def _moving(field: str, value: Any) -> ValueError:
    return ValueError(
        f"{field}: expected a camera that does not move during the exposure, got {_shown(value)}; use pictures of a "
        "global shutter, or remove the field"
    )


def _shown(value: Any) -> str:
    return shortened(repr(value), 80)
