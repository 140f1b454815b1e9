"""What a field of a lens may say: nothing (null, off, zero, empty, "none"), a pinhole, or the numbers of `stated`.

A check is called with the field's full name, its value and its object, and raises ValueError for anything else.
"""

import math
import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple

from spinmeround.storage.errors import printable, shortened

PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL")
"""Camera models that are a pinhole where their distortion is zero."""

COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
"""OpenCV's order."""

_NO_PINHOLE = re.compile(
    r"fish[-_ ]?eye|equi[-_ ]?(?:rect|dist|solid|angular)|(?<!a)spherical|pano(?![a-z])|panoram|ortho(?![a-z])"
    r"|orthograph|orthogonal|orthophoto|omni(?![a-z])|omnidir|lat[-_ ]?long|cylindr|f[-_ ]?theta|vr[-_ ]?180"
    r"|stereograph|mercator|cube[-_ ]?map|kannala|catadioptric|double[-_ ]?sphere|anamorph|mirror[-_ ]?ball"
    r"|^(?:fov|e?ucm|c?mei|ds|kb\d?|unified|(?:simple_)?division|dual|parallel|isometric)$",
    re.IGNORECASE,
)
_NOTHING = {"", "none", "no", "off", "false", "null", "n/a", "zero", "disabled", "global", "ideal", "pinhole"} | {
    *("perspective", "undistorted", "rectified", "removed")
}
_MATRIX_WIDTHS = {9: 3, 12: 4, 16: 4}


class LensObject(NamedTuple):
    """An object of a document.

    `read` is whether `Lens` reads it, as the document and a frame; `camera` whether it is of a camera; `stated` what
    the frame and the document say of the lens; outside frames, the document and its first frame.
    """

    name: str
    fields: Mapping[str, Any]
    read: bool
    camera: bool
    stated: Mapping[str, Any]


Check = Callable[[str, Any, LensObject], None]


def check_kind(field: str, value: Any, place: LensObject) -> None:
    """The name of a projection or a camera model; others, as the name of a product, say nothing."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and _NO_PINHOLE.search(text.strip()):
            raise no_pinhole(field, text)


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
    if any(numbers(value)) if isinstance(value, Mapping) else not states_nothing(value):
        raise _distorted(field, value)


def check_coefficients(field: str, value: Any, place: LensObject) -> None:
    """A list of coefficients under a short name, whose other values are something else."""
    if isinstance(value, Mapping | list) and any(numbers(value)):
        raise _distorted(field, value)


def check_zero(field: str, value: Any, place: LensObject) -> None:
    """A coefficient that is not among `COEFFICIENTS`."""
    if any(numbers(value)):
        raise _distorted(field, value)


def check_shift(field: str, value: Any, place: LensObject) -> None:
    """A principal point in other units."""
    if any(numbers(value)):
        raise ValueError(
            f"{field}: expected 0, got {_shown(value)}; write the principal point as cx and cy in pixels and remove "
            f"{field}"
        )


def same_as(native: str) -> Check:
    """A check of a number that `Lens` reads elsewhere, by the name `native`."""

    def checked(field: str, value: Any, place: LensObject) -> None:
        is_point = isinstance(value, list) and not place.camera
        is_vector_or_box = native in ("w", "h") and "x" in place.fields
        found = [] if is_point or is_vector_or_box else numbers(value)
        if any(found) and found != numbers(place.stated.get(native)):
            raise _elsewhere(field, native, value)

    return checked


def size_of(native: str) -> Check:
    """A check of the size of a picture: without `native`, it is unknown what pixels are meant."""

    def checked(field: str, value: Any, place: LensObject) -> None:
        in_pixels = any(place.stated.get(each) is not None for each in ("fl_x", "fl_y", "cx", "cy"))
        if place.read and in_pixels and place.stated.get(native) is None and any(numbers(value)):
            raise _elsewhere(field, native, value)

    return checked


def check_centre(field: str, value: Any, place: LensObject) -> None:
    """A principal point, as a list or with x and y."""
    found = numbers(list(value.values()) if isinstance(value, Mapping) else value)
    if any(found) and found != numbers([place.stated.get("cx"), place.stated.get("cy")]):
        raise _elsewhere(field, "cx and cy", value)


def check_matrix(field: str, value: Any, place: LensObject) -> None:
    """Intrinsics as a matrix, by rows or columns, in pixels or in sides; or fx, fy, cx, cy and coefficients."""
    found, width = numbers(value), _MATRIX_WIDTHS.get(len(numbers(value)))
    if width is None and any(found[4:]):
        raise _distorted(field, value)
    if width is not None and (found[1] or found[width]):
        raise ValueError(f"{field}: expected a lens without skew, got {_shown(value)}; resample the pictures")
    focal, side = (numbers(place.stated.get(each))[:1] for each in ("fl_x", "w"))
    if focal and any(found) and (width is not None or len(found) == 4):
        expected = [*focal, *(focal[0] / each for each in side if each)]
        if not any(math.isclose(abs(found[0]), each, rel_tol=0.01) for each in expected):
            raise _elsewhere(field, "fl_x, fl_y, cx and cy", value)


def check_k(field: str, value: Any, place: LensObject) -> None:
    """The coefficients of a distortion, or the matrix K."""
    (check_matrix if len(numbers(value)) in _MATRIX_WIDTHS else check_coefficients)(field, value, place)


def check_parameters(field: str, value: Any, place: LensObject) -> None:
    """COLMAP's numbers of a camera, in an order that depends on its model."""
    if isinstance(value, list) and any(numbers(value)):
        raise _elsewhere(field, "fl_x, fl_y, cx, cy, k1, k2, p1 and p2", value)


def check_angle(field: str, value: Any, place: LensObject) -> None:
    """A field of view, most of them in degrees."""
    if not isinstance(value, Mapping) and not states_nothing(value):
        name = field.split(".")[-1]
        raise ValueError(
            f"{field}: expected the lens as fl_x in pixels or camera_angle_x in radians, got {name} {_shown(value)}; "
            f"write one of these in the frame or at the top level and remove {name}"
        )


def check_square(field: str, value: Any, place: LensObject) -> None:
    """The ratio of the sides of a pixel."""
    if any(number != 1 for number in numbers(value)):
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


def states_nothing(value: Any) -> bool:
    """Whether a value is null, off, zero, a word for none, or holds only such values."""
    if isinstance(value, Mapping | list):
        return all(map(states_nothing, value.values() if isinstance(value, Mapping) else value))
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING or numbers(value) == [0.0]
    return not value


def numbers(value: Any) -> list[float]:
    """The numbers of a value, also in nested lists, in text, and in OpenCV's objects, whose numbers are `data`."""
    if isinstance(value, Mapping):
        return numbers(value.get("data"))
    if isinstance(value, list):
        return list(chain.from_iterable(map(numbers, value)))
    if isinstance(value, bool) or not isinstance(value, float | int | str):
        return []
    try:
        return [float(value)]
    except OverflowError:  # of an integer
        return [math.inf]
    except ValueError:
        return []


def squeezed(field: str) -> str:
    """`GPano:ProjectionType` and `projection_type` as `projectiontype`."""
    return re.sub("[^a-z0-9]", "", re.split("[.:]", field)[-1].lower())


def _shown(value: Any) -> str:
    return shortened(repr(value), 80)
