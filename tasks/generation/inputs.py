"""Reads and checks the files that generation is given: pictures, cameras and identities. Readers raise ConfigError."""

import io
import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64
from PIL import Image

from spinmeround.models.geometry.camera_checks import check_cameras, check_distinct
from spinmeround.models.geometry.camera_world import camera_warnings, check_world
from spinmeround.models.geometry.cameras import Cameras, angles_between_deg, orbit
from spinmeround.models.geometry.distortion import distortions_of_transforms, undistorted
from spinmeround.models.geometry.transforms import cameras_of_transforms
from spinmeround.storage.documents import read_bytes
from spinmeround.storage.errors import ConfigError, as_config_error, one_line, printable, shortened
from spinmeround.tasks.generation.params import (
    GenerationParams,
    PhotoInput,
    ViewsInput,
    is_picture,
    parse_view,
)
from spinmeround.tasks.pictures.files import named_picture
from spinmeround.tasks.pictures.matting import check_matting
from spinmeround.tasks.pictures.photos import NO_NORMAL, WHITE, Photo, has_background, picture_size, read_photo

_IDENTITY_FILE = "a .npy file with 512 numbers"
_LARGEST_IDENTITY_BYTES = 1024 * 1024
_FRONT = {"azimuth_deg": 0.0, "elevation_deg": 0.0}


def check_inputs(params: GenerationParams) -> list[str]:
    """Check everything that needs neither the model nor a dataset, so that errors appear before they are loaded.

    Returns remarks for the user, on pictures and cameras that are unlike those of the training.

    Raises ConfigError for a defective file, a camera that doesn't see the head and two given views at one camera.
    """
    targets = target_cameras(params)
    with as_config_error("" if params.cameras_file is None else f"{params.cameras_file}: "):
        check_cameras("cameras", targets)
        if params.cameras_file is not None:
            check_world("cameras", targets)
    notes = []
    if params.cameras_file is not None:
        notes += camera_warnings("cameras", targets, params.views.radius)
    for identity in params.identities:
        if identity.endswith(".npy"):
            read_identity(Path(identity))
        elif is_picture(identity):
            read_photo(Path(identity))
    given = params.given
    if isinstance(given, PhotoInput | ViewsInput) and given.matting is not None:
        check_matting(Path(given.matting))
    if isinstance(given, PhotoInput):
        photo_angles(given)
        notes += _label_notes(given)
        return [*notes, *_remarks(Path(given.file), given)]
    return notes + (_check_views(given, params.views.radius) if isinstance(given, ViewsInput) else [])


def _check_views(given: ViewsInput, radius: float) -> list[str]:
    posed = PosedFiles.read(Path(given.file), undistort=given.undistort)
    with as_config_error(f"{given.file}: "):
        check_cameras("frames", posed.cameras)
        check_world("frames", posed.cameras)
        check_distinct("frames", posed.cameras)
    for number, normals in enumerate(posed.normals or []):
        posed.as_pinhole(number, read_square(normals, normals=True).picture, NO_NORMAL)
    for number, picture in enumerate(posed.images):
        posed.as_pinhole(number, read_square(picture).picture, WHITE)
    return [
        *camera_warnings("frames", posed.cameras, radius),
        *(note for picture in posed.images for note in _remarks(picture, given)),
    ]


def _remarks(path: Path, given: PhotoInput | ViewsInput) -> list[str]:
    """Reads a given picture and returns remarks on it."""
    photo = read_square(path)
    kept = given.matting is None and not photo.cut_out and has_background(photo.picture)
    return [*photo.notes, *([background_note(path)] if kept else [])]


def background_note(path: Path) -> str:
    """The remark on a picture whose background stays."""
    return (
        f"{path}: the background stays in the picture, and the model was trained without any; remove it with --matting "
        "FILE (a network of rembg), or give a cut-out PNG"
    )


def target_cameras(params: GenerationParams) -> Cameras:
    """The cameras to generate views for."""
    return params.views.cameras() if params.cameras_file is None else read_cameras(Path(params.cameras_file))


def find_view(cameras: Cameras, view: str) -> int:
    """The index of a named view among a head's cameras; angles select the nearest camera, by the angle between them.

    Raises ConfigError for an index out of range, ValueError as `parse_view`.
    """
    place = parse_view(view)
    if isinstance(place, int):
        if place >= len(cameras):
            raise ConfigError(f"view {view}: expected an index of #0 to #{len(cameras) - 1}")
        return place
    azimuth_deg, elevation_deg = place
    angles = angles_between_deg(orbit([azimuth_deg], [elevation_deg]), cameras)[0]
    return int(np.round(angles, 3).argmin())


def find_views(cameras: Cameras, views: tuple[str, ...]) -> list[int]:
    """The indices of several named views; raises ConfigError where two names select one view."""
    found = [find_view(cameras, view) for view in views]
    if len(set(found)) < len(found):
        same = ", ".join(f"{view} is #{index}" for view, index in zip(views, found, strict=True))
        raise ConfigError(f"views: expected different views, but {same}")
    return found


def photo_angles(photo: PhotoInput) -> tuple[float, float]:
    """Azimuth and elevation of a photo in degrees: as given, or its label's (the .json next to the photo), or 0.

    Another program's JSON without angles of a camera is no label, and none is read where both angles are given. Raises
    ConfigError for a label that is no JSON object, or one of whose angles is missing or no finite number. Its camera is
    null where the pose is unknown.
    """
    label = label_of(photo)
    camera = None if label is None else _label_camera(label)
    known: Mapping[str, Any] = _FRONT if camera is None else camera

    def angle(name: str, given: float | None, limit: float) -> float:
        found = known.get(name) if given is None else given
        if isinstance(found, bool) or not isinstance(found, int | float) or not -limit <= found <= limit:
            shown = "none" if found is None else shortened(repr(found), 80)
            raise ConfigError(f"{label}: camera.{name}: expected degrees, found {shown} (-{limit:g} to {limit:g})")
        return float(found)

    return angle("azimuth_deg", photo.azimuth_deg, 360.0), angle("elevation_deg", photo.elevation_deg, 90.0)


def label_of(photo: PhotoInput) -> Path | None:
    """The file beside a photo that may state its camera; None if there is none, or the angles are given."""
    given = photo.azimuth_deg is not None and photo.elevation_deg is not None
    label = Path(photo.file).with_suffix(".json")
    return label if not given and label.is_file() else None


def _label_camera(label: Path) -> dict[str, Any] | None:
    """The camera of a label; None if it is null, or the file is another program's."""
    camera = read_document(label).get("camera")
    return camera if isinstance(camera, dict) and not camera.keys().isdisjoint(_FRONT) else None


def _label_notes(photo: PhotoInput) -> list[str]:
    label = label_of(photo)
    if label is None or read_document(label).get("camera") is None or _label_camera(label) is not None:
        return []
    return [f"{label}: states no angles of a camera, so the photo is taken as from the front (--azimuth, --elevation)"]


def read_document(path: Path) -> dict[str, Any]:
    """A JSON file that contains an object, in UTF-8 (with a byte order mark or without), UTF-16 or UTF-32.

    Raises ConfigError for anything else, and for a field that an object states twice.
    """
    try:
        document = json.loads(read_bytes(path, "a JSON file"), object_pairs_hook=partial(_unrepeated, path))
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{path}: expected a JSON object, found lists or objects nested too deep to read") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON, found something else ({one_line(error)})") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a JSON object, found a {type(document).__name__}")
    return document


def _unrepeated(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        field = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ConfigError(
            f"{path}: {printable(field)}: expected each field once in an object, found it again; remove one of them"
        )
    return found


def read_cameras(path: Path) -> Cameras:
    """The cameras of a transforms.json; the side of a picture is read from it where the file does not tell it."""
    return _cameras(path, read_document(path))


def _cameras(path: Path, document: dict[str, Any], *, undistort: bool = False) -> Cameras:
    def side(number: int) -> int | None:
        frame = document["frames"][number]
        size = picture_size(named_picture(path, frame["file_path"])) if frame.get("file_path") else None
        if size is not None and size[0] != size[1]:
            raise ValueError(
                f"frames[{number}]: expected a square picture, or w and h of one, got {frame['file_path']} of "
                f"{size[0]} x {size[1]}"
            )
        return None if size is None else size[0]

    with as_config_error(f"{path}: "):
        return cameras_of_transforms(document, side, distorted_too=undistort)


def read_identity(path: Path) -> Float32[np.ndarray, "512"]:
    """The 512 numbers of a .npy file, normalised to unit length.

    Raises ConfigError for anything else; other containers and types are named.
    """
    values = _numbers(path)
    scale = np.abs(values).max(initial=0.0)  # first: the squares of large numbers overflow
    if values.shape != (512,) or not np.isfinite(values).all() or not scale > 0:
        raise ConfigError(f"{path}: expected 512 finite numbers, not all zero, found {_found(values)}")
    unit = values / scale
    return np.asarray(unit / np.linalg.norm(unit), np.float32)


def _numbers(path: Path) -> Float64[np.ndarray, "..."]:
    """The array of real numbers in a .npy file."""
    data = read_bytes(path, _IDENTITY_FILE, largest=_LARGEST_IDENTITY_BYTES)
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy raises unrelated errors: EOFError, BadZipFile, SyntaxError, MemoryError, ...
        what = "an empty file" if not data else f"none that can be read ({one_line(error, 120)})"
        raise ConfigError(f"{path}: expected {_IDENTITY_FILE}, found {what}") from error
    if not isinstance(values, np.ndarray):
        raise ConfigError(
            f"{path}: expected {_IDENTITY_FILE}, found an .npz archive of {', '.join(values.files[:3]) or 'nothing'}; "
            "save one of its arrays with numpy.save"
        )
    if values.dtype.kind not in "fiu":
        raise ConfigError(f"{path}: expected {_IDENTITY_FILE}, found an array of {values.dtype}")
    # infinity of longdouble, or a signalling NaN: the caller refuses both
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float64)


def _found(values: Float64[np.ndarray, "..."]) -> str:
    invalid = values.size - int(np.isfinite(values).sum())
    if values.shape != (512,):
        return f"shape {values.shape}"
    return f"{invalid} that are not finite" if invalid else "only zeros"


def read_square(path: Path, *, normals: bool = False) -> Photo:
    """A square picture in RGB, composited on white where it is transparent; a normal map on grey, without normals."""
    return read_photo(path, square=True, background=NO_NORMAL if normals else WHITE, colours=not normals)


class PosedFiles(NamedTuple):
    """1 or 3 posed pictures, and their normals where the file names them.

    `distortions` are OpenCV's coefficients of each lens, None for a pinhole.
    """

    path: Path
    cameras: Cameras
    images: list[Path]
    normals: list[Path] | None
    distortions: list[tuple[float, ...] | None]

    @staticmethod
    def read(path: Path, *, undistort: bool = False) -> "PosedFiles":
        """The frames of a transforms.json and the paths of their pictures, which are not opened.

        Raises ConfigError for a lens with a distortion, unless the pictures are to be undistorted.
        """
        document = read_document(path)
        cameras = _cameras(path, document, undistort=undistort)
        if len(cameras) not in (1, 3):
            raise ConfigError(f"{path}: expected 1 or 3 frames as given views, got {len(cameras)}")
        frames, found = document["frames"], {}
        for key in ("file_path", "normals_file_path"):
            found[key] = [named_picture(path, frame[key], key) for frame in frames if frame.get(key)]
            if len(found[key]) not in (len(cameras), 0 if key == "normals_file_path" else len(cameras)):
                raise ConfigError(
                    f"{path}: expected {key} in each frame, found it in {len(found[key])} of {len(cameras)}"
                )
        distortions = distortions_of_transforms(document)
        return PosedFiles(path, cameras, found["file_path"], found["normals_file_path"] or None, distortions)

    def as_pinhole(self, number: int, picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
        """The picture of a frame without the distortion of its lens. Raises ConfigError for one that can't be right."""
        if (coefficients := self.distortions[number]) is None:
            return picture
        with as_config_error(f"{self.path}: frames[{number}]: "):
            intrinsics = self.cameras.intrinsics[number]
            return Image.fromarray(undistorted(np.asarray(picture), intrinsics, coefficients, background))
