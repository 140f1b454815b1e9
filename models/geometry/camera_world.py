"""Tells cameras of another world: whether they see the head, and which convention of their file explains it if not.

The world is the head's: y up, the face looks along +z, and the head fills the cube of side 1 around the origin. Files
of other tools have other camera axes, matrices from world to camera, z up, or another unit.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float64

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, pixel_rays, project

HALF = 0.5
"""Half the side of the head's cube."""

TRAINED = ViewGrid()

MAX_EXTENT = 6.0
"""Largest width of the image at the head's centre, in units of that in training: the head is a few latent pixels."""
MIN_EXTENT = 0.02
"""Smallest such width: the image shows a spot of skin."""
MAX_ROLL_DEG = 45.0
STEEP_DEG = 75.0
"""Elevation beyond which z up is likelier than a view from there."""
MAX_ASPECT = 1.02
"""Ratio of the focal lengths, by which pixels are high or wide, from which a warning is due."""
MAX_SHIFT = 0.1
"""Distance of the principal point from the image's middle, in its sides, from which a warning is due."""
FAR = 1.25
"""Ratio to the trained distance or extent from which a warning is due."""

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
_TURN = np.diag([-1.0, 1.0, -1.0, 1.0])
_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])

Poses = Float64[np.ndarray, "view 4 4"]

_CAUSES: dict[str, Callable[[Poses], Poses]] = {
    "world-to-camera matrices (invert them)": lambda poses: np.linalg.inv(poses @ _FLIP) @ _FLIP,
    "OpenCV camera axes (negate columns 2 and 3)": lambda poses: poses @ _FLIP,
    "cameras that look away from the head (negate columns 1 and 3)": lambda p: p @ _TURN,
    "a world with z up (rotate by -90 degrees around x)": lambda poses: _Z_UP @ poses,
    "a world with y down (rotate by 180 degrees around x)": lambda poses: _FLIP @ poses,
}
"""What may be wrong with a file, in the order in which it is undone, and the `cam2world` matrices that were meant."""


def sees_head(cameras: Cameras) -> Bool[np.ndarray, " view"]:
    """Which cameras have a part of the head's cube in their image."""
    grid = np.linspace(-HALF, HALF, 3)
    points = np.stack(np.meshgrid(grid, grid, grid), axis=-1).reshape(-1, 3)
    with np.errstate(all="ignore"):
        places, depth = project(cameras, points)
        inside = ((places >= 0) & (places <= 1)).all(axis=-1) & (depth > 0)
    return np.asarray(inside.any(axis=-1) | _rays_hit(cameras))


def check_sees_head(name: str, cameras: Cameras) -> None:
    """Raises ValueError with `name` and the index of the first camera whose image shows no part of the head's cube."""
    blind = np.flatnonzero(~sees_head(cameras))
    if len(blind):
        raise ValueError(f"{name}: {_found(cameras, int(blind[0]))}")


def check_world(name: str, cameras: Cameras) -> None:
    """Check cameras of a file: each sees the head at a usable size, and no other convention explains them better.

    Raises ValueError with `name`, the index of the first such camera, and the likely causes.
    """
    extent = extents(cameras)
    sized = (extent >= MIN_EXTENT) & (extent <= MAX_EXTENT)
    wrong = ~sees_head(cameras) | ~sized
    odd = wrong | ~_upright(cameras) | (cameras.elevation_deg < -STEEP_DEG).all()
    if not odd.any():
        return
    causes = _likely_causes(cameras)
    if not causes and not wrong.any():
        return  # rolled or steep views that are what they seem
    first = int(np.flatnonzero(wrong if wrong.any() else odd)[0])
    if causes:
        reason = f"likely the file has {' or '.join(causes)}"
    elif not sized[first]:
        reason = f"its image is {extent[first]:.3g} times as wide there as in training"
    else:
        reason = "matrices are camera-to-world with OpenGL axes (x right, y up, looking along -z)"
    raise ValueError(f"{name}: {_found(cameras, first)}; {reason}")


def camera_warnings(name: str, cameras: Cameras, radius: float) -> list[str]:
    """Remarks on cameras that are unlike those of the training, whose distance was `radius`."""
    found = []
    distance, extent = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=-1), extents(cameras, radius)
    for what, values, trained in (("distance", distance, radius), ("extent", extent * _width(radius), _width(radius))):
        ratio = values / trained
        far = int(np.abs(np.log(ratio)).argmax())
        if not 1 / FAR <= ratio[far] <= FAR:
            meaning = "from the head's centre" if what == "distance" else "wide at the head's centre"
            found.append(
                f"{name}: camera {far} is unlike the training: its {'position' if what == 'distance' else 'image'} is "
                f"{values[far]:.3g} {meaning}, {trained:.3g} in training; expect poorer views"
            )
    focal = cameras.intrinsics[:, [0, 1], [0, 1]].astype(np.float64)
    aspect = int((focal.max(axis=1) / focal.min(axis=1)).argmax())
    if focal[aspect].max() > MAX_ASPECT * focal[aspect].min():
        found.append(
            f"{name}: camera {aspect} has focal lengths of {focal[aspect, 0]:.4g} (x) and {focal[aspect, 1]:.4g} (y) "
            "sides of the image; in training they are equal, so the head may be squeezed"
        )
    shift = np.abs(cameras.intrinsics[:, :2, 2].astype(np.float64) - 0.5).max(axis=1)
    if shift.max() > MAX_SHIFT:
        x, y = cameras.intrinsics[int(shift.argmax()), :2, 2]
        found.append(
            f"{name}: camera {shift.argmax()} has its principal point at {x:.3g}, {y:.3g} of the image; in training it "
            "is in the middle (0.5, 0.5), so the head may be off centre"
        )
    places, depth = project(cameras, np.zeros((1, 3)))
    inside = ((places >= 0) & (places <= 1)).all(axis=(1, 2)) & (depth > 0).all(axis=1)
    outside = np.flatnonzero(~inside)
    if len(outside):
        found.append(f"{name}: the head's centre is outside the image of camera {outside[0]}; in training it is inside")
    rolled = np.flatnonzero(~_upright(cameras))
    if len(rolled):
        found.append(f"{name}: camera {rolled[0]} is rolled by more than {MAX_ROLL_DEG:g} degrees; in training none is")
    return found


def extents(cameras: Cameras, radius: float = TRAINED.radius) -> Float64[np.ndarray, " view"]:
    """Widths of the images at the distance of the head's centre, in units of that in training."""
    distance = np.linalg.norm(cameras.cam2world[:, :3, 3].astype(np.float64), axis=-1)
    focal = cameras.intrinsics[:, [0, 1], [0, 1]].astype(np.float64).mean(axis=-1)
    return np.asarray(distance / focal / _width(radius))


def _width(radius: float) -> float:
    return radius / TRAINED.focal


def _found(cameras: Cameras, view: int) -> str:
    pose = cameras.cam2world[view]
    at, along = (", ".join(f"{number + 0.0:.3g}" for number in vector) for vector in (pose[:3, 3], pose[:3, 2]))
    return (
        f"expected cameras that see the head's cube (side 1 at the origin, y up), got camera {view} at ({at}) that "
        f"looks along ({along})"
    )


def _rays_hit(cameras: Cameras) -> Bool[np.ndarray, " view"]:
    """Whether one of 5 x 5 rays of the image meets the cube, for images that show less than a part of it."""
    with np.errstate(all="ignore"):
        origins, directions = pixel_rays(cameras, 5)
        ends = np.stack([(side - origins) / directions for side in (-HALF, HALF)])
        enter, leave = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
    return np.asarray(((enter <= leave) & (leave > 0)).any(axis=(1, 2)))


def _upright(cameras: Cameras) -> Bool[np.ndarray, " view"]:
    """Which cameras have the world's y axis up in their image; those that look straight up or down have any roll."""
    rotation = cameras.cam2world[:, :3, :3].astype(np.float64)
    forward, up = rotation[:, :, 2], -rotation[:, :, 1]
    flat = np.array([0.0, 1.0, 0.0]) - forward[:, 1:2] * forward
    length = np.linalg.norm(flat, axis=-1)
    straight = length < np.sin(np.radians(5.0))
    return np.asarray(straight | (np.einsum("vi,vi->v", up, flat) >= length * np.cos(np.radians(MAX_ROLL_DEG))))


def _natural(cameras: Cameras) -> bool:
    """Whether all cameras look at the head, upright, not from straight above or below, at a usable size."""
    places, depth = project(cameras, np.zeros((1, 3)))
    centred = ((places >= 0) & (places <= 1)).all() and (depth > 0).all()
    extent = extents(cameras)
    sized = ((extent >= 1 / MAX_EXTENT) & (extent <= MAX_EXTENT)).all()
    position = cameras.cam2world[:, :3, 3].astype(np.float64)
    steep = np.abs(position[:, 1]) > np.linalg.norm(position, axis=-1) * np.sin(np.radians(STEEP_DEG))
    return bool(centred and sized and _upright(cameras).all() and not steep.any())


def _likely_causes(cameras: Cameras) -> list[str]:
    """The smallest sets of causes under which all cameras are natural, in words; empty if no set of three is enough."""
    with np.errstate(all="ignore"):
        scaled, unit = _in_heads(cameras)
        for number in range(len(_CAUSES) - 1):
            sets = [names for names in combinations(_CAUSES, number) if _explains(scaled, names)]
            if sets and (number or unit):
                return [" and ".join([*unit, *names]) for names in sets]
    return []


def _explains(cameras: Cameras, names: tuple[str, ...]) -> bool:
    poses = cameras.cam2world.astype(np.float64)
    for name in names:
        poses = _CAUSES[name](poses)
    return _natural(replace(cameras, cam2world=poses.astype(np.float32)))


def _in_heads(cameras: Cameras) -> tuple[Cameras, list[str]]:
    """The cameras in units of the head's cube, and what their unit seems to be if it is another."""
    ratio = float(np.median(extents(cameras)))
    if 1 / MAX_EXTENT <= ratio <= MAX_EXTENT:
        return cameras, []
    cam2world = cameras.cam2world.copy()
    cam2world[:, :3, 3] /= ratio
    if ratio < 1:
        return replace(cameras, cam2world=cam2world), [
            f"positions in a larger unit (about {1 / ratio:.0f} times too small)"
        ]
    unit = "millimetres" if ratio >= 250 else "centimetres" if ratio >= 25 else "another unit"
    return replace(cameras, cam2world=cam2world), [f"positions in {unit} (about {ratio:.0f} times too large)"]
