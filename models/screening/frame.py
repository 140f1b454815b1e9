"""The frame of a head and its regions: from its mirror plane, and from its landmarks or its outline.

Coordinates in the frame are (x to the right of the frontal picture, y up, z forward), in sides of the cube. The origin
lies on the mirror plane at the height of the eyes. The pitch of a head is not corrected.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Float64

from spinmeround.models.screening.mirror import MirrorPlane

Region = Literal["face", "top", "back", "sides", "neck"]
REGIONS: tuple[Region, ...] = get_args(Region)
"""Parts of a head; each point belongs to one."""

FACE_DEPTH = 1.5
"""Depth of the origin behind the eyes, in distances from eyes to mouth."""

EYES_OF_HEIGHT, FACE_OF_HEIGHT = 0.5, 0.24
"""Height of the eyes below the crown and distance from eyes to mouth, in heights from crown to neck: the proportions
that artists use, for heads without landmarks."""

MIDLINE_TOLERANCE = 0.08
"""Largest distance of the middle of a face from the mirror plane for its landmarks to be trusted, in sides."""


@dataclass(frozen=True, kw_only=True)
class HeadFrame:
    """Axes (columns: right, up, forward) and origin of a head, and the distance from its eyes to its mouth."""

    plane: MirrorPlane
    axes: Float64[np.ndarray, "3 3"]
    origin: Float64[np.ndarray, "3"]
    face: float

    def local(self, points: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
        """Coordinates in the frame of points relative to the cube's centre."""
        return np.asarray((points - self.origin) @ self.axes)

    def world(self, points: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
        """Points relative to the cube's centre, from coordinates in the frame."""
        return np.asarray(points @ self.axes.T + self.origin)

    @property
    def chin(self) -> float:
        """Height of the chin."""
        return -1.8 * self.face

    @property
    def forehead(self) -> float:
        """Height of the top of the forehead."""
        return 1.0 * self.face

    @property
    def yaw_deg(self) -> float:
        """Azimuth that the face looks to."""
        return float(np.degrees(np.arctan2(self.axes[0, 2], self.axes[2, 2])))

    def region(self, name: Region, local: Float[np.ndarray, "*shape 3"]) -> Bool[np.ndarray, "*shape"]:
        """Which points, in coordinates of the frame, belong to a region. Points that are not finite belong to none."""
        x, y, z = np.moveaxis(local, -1, 0)
        azimuth = np.abs(np.degrees(np.arctan2(x, z)))
        below, above = y < self.chin, y > self.forehead
        between = ~below & ~above & np.isfinite(y)
        masks: dict[Region, np.ndarray] = {
            "neck": below,
            "top": above,
            "face": between & (azimuth < 60.0),
            "back": between & (azimuth > 120.0),
            "sides": between & (azimuth >= 60.0) & (azimuth <= 120.0),
        }
        return np.asarray(masks[name])


def head_frame(plane: MirrorPlane, landmarks: Float[np.ndarray, "5 3"] | None, crown: float, neck: float) -> HeadFrame:
    """The frame of a head.

    `landmarks` are those of `alignment`, relative to the cube's centre. Without landmarks that fit the plane, the eyes
    are placed between `crown` and `neck`, the heights of the head's top and of the narrowest part below it.
    """
    up = np.array([0.0, 1.0, 0.0]) - plane.normal[1] * plane.normal
    up /= np.linalg.norm(up)
    axes = np.stack([plane.normal, up, np.cross(plane.normal, up)], axis=-1)
    found = None if landmarks is None else _from_landmarks(plane, axes, landmarks.astype(np.float64))
    if found is not None:
        return found
    height = max(crown - neck, 0.05)
    eyes = up * (crown - EYES_OF_HEIGHT * height)
    return HeadFrame(plane=plane, axes=axes, origin=_onto(plane, eyes), face=FACE_OF_HEIGHT * height)


def _from_landmarks(
    plane: MirrorPlane, axes: Float64[np.ndarray, "3 3"], landmarks: Float64[np.ndarray, "5 3"]
) -> HeadFrame | None:
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    face = float((eyes - mouth) @ axes[:, 1])
    off = np.abs(np.array([eyes, mouth]) @ plane.normal - plane.offset)
    if not np.isfinite(landmarks).all() or not (off < MIDLINE_TOLERANCE).all() or not 0.02 < face < 0.3:
        return None
    origin = _onto(plane, eyes) - FACE_DEPTH * face * axes[:, 2]
    return HeadFrame(plane=plane, axes=axes, origin=origin, face=face)


def _onto(plane: MirrorPlane, point: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    """The nearest point of the plane."""
    return np.asarray(point - (point @ plane.normal - plane.offset) * plane.normal, np.float64)
