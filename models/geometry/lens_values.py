"""What a field of a lens says: its numbers, whether it says nothing, and whether it agrees with what is read."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
"""OpenCV's order."""

_ZEROS = (0.0,) * len(COEFFICIENTS)

TOLERANCE = 0.01
"""Largest difference of two statements of a focal length, relative, and of a principal point, in image sides."""

NOISE = 1e-6
"""Largest coefficient, and skew in focal lengths, that is a rounded zero."""

_NOTHING = {"", "none", "no", "off", "false", "null", "n/a", "zero", "disabled", "global", "ideal", "pinhole"} | {
    *("perspective", "undistorted", "rectified", "removed", "no distortion")
}


class ReadLens(NamedTuple):
    """What is read of a frame's lens.

    `intrinsics` are fx and cx in widths, fy and cy in heights of the image (fx, fy, cx, cy), None where the file lacks
    them; `size` is its width and height in pixels, and `sized` whether the file states it; `coefficients` are OpenCV's,
    None without a distortion.
    """

    intrinsics: tuple[float, float, float, float] | None = None
    size: tuple[float, float] | None = None
    sized: bool = False
    coefficients: tuple[float, ...] | None = None

    def agrees(self, native: str, value: float) -> bool:
        """Whether a value, in pixels or image sides, radians or degrees, is what `Lens` reads as `native`."""
        if native in COEFFICIENTS:
            return abs(value - (self.coefficients or _ZEROS)[COEFFICIENTS.index(native)]) <= NOISE
        if self.intrinsics is None:
            return False
        if native in ("w", "h"):
            return self.size is None or self.size[native == "h"] == value
        row = int(native.endswith("y"))
        side = None if self.size is None else self.size[row]
        focal, centre = self.intrinsics[row], self.intrinsics[row + 2]
        found, limit, forms = centre, TOLERANCE, (value, value / (side or 1.0))
        if native.startswith("fl"):
            found, limit = focal, TOLERANCE * focal
        if native.startswith("camera_angle"):
            found = 2 * math.atan(0.5 / focal)
            limit, forms = TOLERANCE * found, (value, math.radians(value))
        return any(abs(each - found) <= limit for each in forms)


def states_nothing(value: Any) -> bool:
    """Whether a value is null, off, zero, a word for none, an object that is not enabled, or holds only such values."""
    if isinstance(value, Mapping):
        return value.get("enabled") is False or all(map(states_nothing, value.values()))
    if isinstance(value, list):
        return all(map(states_nothing, value))
    found = numbers(value)
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING or (bool(found) and not some(found))
    return not (some(found) if found else value)


def some(values: Sequence[float]) -> bool:
    """Whether a number differs from zero."""
    return not all(abs(value) <= NOISE for value in values)


def numbers(value: Any) -> list[float]:
    """The numbers of a value, also in nested lists, in text, and in OpenCV's objects, whose numbers are `data`."""
    if isinstance(value, Mapping):
        return numbers(value.get("data"))
    if isinstance(value, list):
        return list(chain.from_iterable(map(numbers, value)))
    if isinstance(value, bool) or not isinstance(value, float | int | str):
        return []
    try:
        words = re.split(r"[\s,;\[\]()]+", value.strip("[](),; \n")) if isinstance(value, str) else [value]
        return [float(word) for word in words]
    except OverflowError:  # of an integer
        return [math.inf]
    except ValueError:
        return []


@lru_cache(maxsize=4096)
def squeezed(field: str) -> str:
    """`GPano:ProjectionType` and `projection_type` as `projectiontype`."""
    return re.sub("[^a-z0-9]", "", re.split("[.:]", field)[-1].lower())
