"""Crops a photo of a face in the way of PanoHead's training pictures, and estimates its camera.

Landmarks are given, or detected by an InsightFace pack. The camera needs a pack with 68 landmarks in 3D.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.cropping import (
    HeadSquare,
    cut,
    script_rejections,
    square_and_camera,
    square_of_five,
)
from spinmeround.models.identity.detection import FaceDetector, Landmarks3D
from spinmeround.models.identity.params import Border
from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.weights import check_onnx
from spinmeround.tasks.pictures.photos import require_content
from spinmeround.tasks.weights.insightface_packs import open_pack

MIN_HEAD_SIDE = 256
"""Side of the head's square in the photo, in pixels, below which PanoHead's own cropping skips a photo."""


@dataclass(frozen=True, kw_only=True)
class AlignedPhoto:
    """The crop, its square in the photo, the landmarks in pixels of the crop, and the camera if known.

    `rejections` are the reasons for which PanoHead's script would leave out the photo; known only with the camera.
    """

    picture: UInt8[np.ndarray, "side side 3"]
    square: HeadSquare
    landmarks: Float[np.ndarray, "5 2"]
    cam2world: Float[np.ndarray, "4 4"] | None
    rejections: tuple[str, ...] = ()

    def label(self) -> dict[str, Any]:
        """The JSON document next to the picture; `camera` is None if the pose is unknown."""
        square = {"centre": self.square.centre.tolist(), "right": self.square.right.tolist(), "side": self.square.side}
        found: dict[str, Any] = {"square": square, "landmarks": self.landmarks.tolist(), "camera": None}
        if self.cam2world is not None:
            (x, y, z), focal = self.cam2world[:3, 3], ViewGrid().focal
            found["camera"] = {
                "cam2world": self.cam2world.tolist(),
                "intrinsics": [[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]],
                "azimuth_deg": float(np.degrees(np.arctan2(x, z))),
                "elevation_deg": float(np.degrees(np.arctan2(y, np.hypot(x, z)))),
            }
        return found


def align_photo(
    photo: UInt8[np.ndarray, "height width 3"],
    *,
    landmarks: Float[np.ndarray, "5 2"] | None,
    pack: Path | None,
    side: int,
    border: Border,
) -> AlignedPhoto:
    """Crop a photo to `side` pixels by the given landmarks, or by those that the pack detects.

    Raises ConfigError without landmarks and pack, for landmarks outside the photo, a crop of one colour, and if the
    pack detects no face.
    """
    cam2world, rejections = None, tuple[str, ...]()
    if landmarks is not None:
        check_inside(landmarks, photo)
        square = square_of_five(landmarks)
    elif pack is not None:
        landmarks, square, cam2world, rejections = _found(photo, pack)
    else:
        raise ConfigError("align: expected --pack FOLDER, an InsightFace pack, or --landmarks, got neither")
    shown = np.column_stack([landmarks, np.ones(5)]) @ square.to_crop(side).T
    picture = cut(photo, square, side, border)
    require_content(Image.fromarray(picture), "crop around the landmarks")
    return AlignedPhoto(picture=picture, square=square, landmarks=shown, cam2world=cam2world, rejections=rejections)


def check_inside(landmarks: Float[np.ndarray, "5 2"], photo: UInt8[np.ndarray, "height width 3"]) -> None:
    """Raises ConfigError for given landmarks that are not inside the photo."""
    height, width = photo.shape[:2]
    if not ((landmarks >= -0.5) & (landmarks <= np.array([width, height]) - 0.5)).all():
        raise ConfigError(
            f"--landmarks: expected points inside the upright photo of {width} x {height} pixels, got "
            f"{landmarks.tolist()}"
        )


def _found(
    photo: UInt8[np.ndarray, "height width 3"], folder: Path
) -> tuple[Float[np.ndarray, "5 2"], HeadSquare, Float[np.ndarray, "4 4"] | None, tuple[str, ...]]:
    pack = open_pack(folder)
    for network in filter(None, (pack.detector, pack.landmarks_3d)):
        check_onnx(network)
    face = FaceDetector(pack.detector).largest(photo)
    if face is None:
        raise ConfigError("expected a face, the pack detects none; give its --landmarks, or choose another photo")
    if pack.landmarks_3d is None:
        return face.landmarks, square_of_five(face.landmarks), None, ()
    points = Landmarks3D(pack.landmarks_3d).find(photo, face.box)
    square, cam2world = square_and_camera(points)
    return face.landmarks, square, cam2world, script_rejections(points, square, cam2world)


def parse_landmarks(text: str) -> Float[np.ndarray, "5 2"]:
    """Parse five `x,y` pairs separated by spaces; raises ConfigError that states their order."""
    try:
        points = np.array([[float(number) for number in point.split(",")] for point in text.split()])
    except ValueError:
        points = np.zeros(0)
    if points.shape != (5, 2):
        raise ConfigError(
            f"--landmarks: expected five 'x,y' in pixels (left eye, right eye, nose tip, left and right corner of the "
            f"mouth, as seen in the photo), got {text!r}"
        )
    return points


def write_aligned(aligned: AlignedPhoto, to: Path) -> Path:
    """Write the picture, then its label next to it as .json; returns the label's path."""
    data = io.BytesIO()
    Image.fromarray(aligned.picture).save(data, "PNG")
    label = to.with_suffix(".json")
    with environment_errors(to):
        write_atomic(to, data.getvalue())
        write_atomic(label, (json.dumps(aligned.label(), indent=1, allow_nan=False) + "\n").encode())
    return label
