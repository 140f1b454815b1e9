"""Crops of photos in the format of PanoHead's training images, and the camera of the photo.

PanoHead fits a 3D face model, moves FFHQ's quad (Karras et al. 2019) to its centre and size, then adds a tenth above
and a twentieth at each side. This module does the same with insightface's mean face of 68 landmarks. The centre in the
frame of the mean face and the size of the quad were measured on PanoHead's published crops and labels. Positions are in
pixels in OpenCV's convention.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from insightface.data import get_object
from insightface.utils.transform import P2sRt, estimate_affine_matrix_3d23d
from jaxtyping import Float, UInt8

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.params import Border
from spinmeround.storage.errors import ConfigError

_CENTRE = np.array([0.0, -0.106, -0.16])
"""Centre of PanoHead's quad in the frame of the mean face (x right, y down, z towards the viewer)."""
_QUAD = 1.892
"""Side of PanoHead's quad, in units of the mean face."""
_FROM_EYES, _PER_EYES = 0.380, 3.56
"""The same for a frontal face with five landmarks: position of the centre between eyes (0) and mouth (1), and side of
the quad in units of the distance between the eyes."""
_SIDE, _RAISED = 1.1, 0.05
"""Side of the crop, and offset of its centre above that of the quad, in units of the quad."""
_SCALES, _PITCH_DEG, _ROLL_DEG = (0.7, 1.3), 80.0, 50.0
"""Sizes of the quad as a share of FFHQ's, and angles, beyond which PanoHead's script leaves out a photo."""
_FLIP_Y = np.diag([1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class HeadSquare:
    """The square of a photo that becomes the crop: its centre, and the vectors of half a side to the right and down."""

    centre: Float[np.ndarray, "2"]
    right: Float[np.ndarray, "2"]

    @property
    def down(self) -> Float[np.ndarray, "2"]:
        return np.array([-self.right[1], self.right[0]])

    @property
    def side(self) -> float:
        """Side in pixels of the photo."""
        return float(2 * np.hypot(*self.right))

    def to_crop(self, side: int) -> Float[np.ndarray, "2 3"]:
        """Affine map from pixels of the photo to pixels of a crop of this side."""
        axes = np.stack([self.right, self.down]) / (self.right @ self.right) * side / 2
        return np.column_stack([axes, side / 2 - 0.5 - axes @ self.centre])


def square_of_five(landmarks: Float[np.ndarray, "5 2"]) -> HeadSquare:
    """The square of a face, assumed frontal, from its five landmarks.

    Raises:
        ValueError: if the landmarks are not finite or coincide.
    """
    left, right, _, mouth_left, mouth_right = np.asarray(landmarks, np.float64)
    eyes, eye_to_eye = (left + right) / 2, right - left
    eye_to_mouth = (mouth_left + mouth_right) / 2 - eyes
    if not np.isfinite(landmarks).all() or min(np.hypot(*eye_to_eye), np.hypot(*eye_to_mouth)) < 1:
        raise ValueError(f"landmarks: expected two eyes and a mouth below them, got {np.asarray(landmarks).tolist()}")
    # FFHQ's larger of two lengths, so that a face in profile does not count as a small one
    length = max(np.hypot(*eye_to_eye), 0.9 * np.hypot(*eye_to_mouth))
    return _square(eyes + _FROM_EYES * eye_to_mouth, _upright(eye_to_eye, eye_to_mouth), _PER_EYES * length)


def square_and_camera(
    landmarks: Float[np.ndarray, "68 3"],
) -> tuple[HeadSquare, Float[np.ndarray, "4 4"]]:
    """The square of a head from 68 landmarks in 3D, and `cam2world` of the camera on the orbit that matches its
    pose."""
    scale, rotation, shift = P2sRt(estimate_affine_matrix_3d23d(get_object("meanshape_68.pkl"), landmarks))
    centre = (scale * rotation @ _CENTRE + shift)[:2]
    eyes, mouth = (landmarks[part, :2].mean(axis=0) for part in (slice(36, 48), [48, 54]))
    eye_to_eye = landmarks[42:48, :2].mean(axis=0) - landmarks[36:42, :2].mean(axis=0)
    right = _upright(eye_to_eye, mouth - eyes)
    roll = np.array([[right[0], right[1], 0], [-right[1], right[0], 0], [0, 0, 1]])  # the crop is upright
    return _square(centre, right, _QUAD * scale), _camera(roll @ rotation)


def script_rejections(
    landmarks: Float[np.ndarray, "68 3"], square: HeadSquare, cam2world: Float[np.ndarray, "4 4"]
) -> tuple[str, ...]:
    """Why PanoHead's script would leave this head out of its training pictures; empty if it would not.

    The script begins with FFHQ's quad of the landmarks, fits a face model inside, and gives up where size, pose or
    position of the fit are far from those of the quad. (Its limit of 90 degrees for yaw, an arcsine, has no effect.)
    """
    quad, up = square.side / _SIDE, -square.down / np.hypot(*square.down)
    points = landmarks[:, :2]
    eyes, mouth = points[36:48].mean(axis=0), points[[48, 54]].mean(axis=0)
    eye_to_eye = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
    half = max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*(mouth - eyes)))
    offset = (square.centre - _RAISED * quad * up - eyes - 0.1 * (mouth - eyes)) / half
    along = np.array([offset @ square.right, offset @ square.down]) / np.hypot(*square.right)
    view = np.diag([1.0, -1.0, -1.0]) @ cam2world[:3, :3].T
    pitch, roll = np.degrees([np.arctan2(view[2, 1], view[2, 2]), np.arctan2(view[1, 0], view[0, 0])])
    found = []
    size = quad / (2 * half)
    if not _SCALES[0] <= size <= _SCALES[1]:
        found.append(f"its size is {size:.2f} of FFHQ's crop ({_SCALES[0]} to {_SCALES[1]} in PanoHead)")
    for name, angle, most in (("pitch", pitch, _PITCH_DEG), ("roll", roll, _ROLL_DEG)):
        if abs(angle) > most:
            found.append(f"its {name} is {angle:.0f} degrees (PanoHead's has at most {most:.0f})")
    if np.abs(along).max() > 1:
        found.append("its centre is outside of FFHQ's crop")
    return tuple(found)


def _upright(eye_to_eye: Float[np.ndarray, "2"], eye_to_mouth: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """FFHQ's unit vector to the right: the eye axis plus the perpendicular of the eye-mouth axis."""
    right = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])
    return np.asarray(right / np.hypot(*right))


def _square(centre: Float[np.ndarray, "2"], right: Float[np.ndarray, "2"], quad: float) -> HeadSquare:
    up = np.array([right[1], -right[0]])
    return HeadSquare(centre=centre + _RAISED * quad * up, right=right * quad * _SIDE / 2)


def _camera(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4 4"]:
    """`cam2world` from the rotation of the face in the image frame (y down, z towards the viewer)."""
    world_to_view = _FLIP_Y @ rotation @ _FLIP_Y  # y up in both
    cam2world = np.eye(4)
    cam2world[:3, :3] = world_to_view.T @ np.diag([1.0, -1.0, -1.0])
    cam2world[:3, 3] = world_to_view.T @ [0.0, 0.0, ViewGrid().radius]
    return cam2world


def cut(
    photo: UInt8[np.ndarray, "height width 3"], square: HeadSquare, side: int, border: Border
) -> UInt8[np.ndarray, "side side 3"]:
    """The crop of a square; pixels outside the photo are white, or a blurred reflection as in PanoHead.

    Raises ConfigError for a square that is out of proportion to the photo, as of absurd landmarks.
    """
    shrink = max(1, int(square.side / side / 2))
    if shrink > min(photo.shape[:2]):
        raise ConfigError(
            f"crop: expected a square in proportion to the photo of {photo.shape[1]} x {photo.shape[0]} px, got one of "
            f"{square.side:.3g} px; check the landmarks"
        )
    small = cv2.resize(photo, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA) if shrink > 1 else photo
    scale = np.array([photo.shape[1] / small.shape[1], photo.shape[0] / small.shape[0]])
    back = np.diag([*scale, 1.0])
    back[:2, 2] = scale / 2 - 0.5  # pixel centres of the small photo in the large one
    twice = square.to_crop(2 * side) @ back
    mode = cv2.BORDER_REFLECT if border == "blurred" else cv2.BORDER_CONSTANT
    large = cv2.warpAffine(
        small, twice, (2 * side, 2 * side), flags=cv2.INTER_LANCZOS4, borderMode=mode, borderValue=(255, 255, 255)
    )
    picture = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)
    return _blurred(picture, photo, square) if border == "blurred" else np.asarray(picture)


def _blurred(
    picture: UInt8[np.ndarray, "side side 3"], photo: UInt8[np.ndarray, "height width 3"], square: HeadSquare
) -> UInt8[np.ndarray, "side side 3"]:
    side = len(picture)
    inside = cv2.warpAffine(np.ones(photo.shape[:2], np.float32), square.to_crop(side), (side, side))
    weight = cv2.blur(inside, (2 * int(0.02 * side) + 1,) * 2)[..., None]
    blurred = cv2.blur(picture, (2 * int(0.03 * side) + 1,) * 2)
    return np.asarray(np.rint(picture * weight + blurred * (1 - weight)), np.uint8)
