"""Files that sampling takes: pictures, posed pictures, cameras and identities. All readers raise ConfigError."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.transforms import cameras_of_transforms
from spinmeround.storage.errors import ConfigError, as_config_error


def read_document(path: Path) -> dict[str, object]:
    """A JSON file that holds an object; raises ConfigError."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: expected a transforms.json, found none that can be read") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON, found something else ({error})") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected an object with 'frames', found a {type(document).__name__}")
    return document


def read_cameras(path: Path) -> Cameras:
    """The cameras of a transforms.json; raises ConfigError."""
    with as_config_error(f"{path}: "):
        return cameras_of_transforms(read_document(path))


def read_identity(path: Path) -> np.ndarray:
    """512 finite numbers of a .npy file, of unit length; raises ConfigError."""
    try:
        identity = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a .npy file with 512 numbers, found none that can be read") from error
    if identity.shape != (512,) or not np.isfinite(identity).all() or not np.linalg.norm(identity) > 0:
        raise ConfigError(f"{path}: expected 512 finite numbers, not all zero, found shape {identity.shape}")
    return np.asarray(identity / np.linalg.norm(identity), np.float32)


def read_on_white(path: Path) -> Image.Image:
    """A picture in RGB, on white where it is transparent."""
    try:
        picture = Image.open(path).convert("RGBA")
    except OSError as error:
        raise ConfigError(f"{path}: expected a picture, found none that can be read") from error
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def read_square(path: Path) -> Image.Image:
    """A square picture in RGB, on white where it is transparent."""
    flat = read_on_white(path)
    if flat.width != flat.height:
        raise ConfigError(
            f"{path}: expected a square picture, framed as the dataset's, got {flat.width} x {flat.height}"
        )
    return flat


class PosedFiles(NamedTuple):
    """1 or 3 posed pictures, and their normals where they are known."""

    cameras: Cameras
    images: list[Path]
    normals: list[Path] | None

    @staticmethod
    def read(path: Path) -> "PosedFiles":
        """The frames of a transforms.json and the pictures that it names, which are not opened."""
        document, cameras = read_document(path), read_cameras(path)
        if len(cameras) not in (1, 3):
            raise ConfigError(f"{path}: expected 1 or 3 frames as conditioning views, got {len(cameras)}")
        frames: Any = document["frames"]
        found = {}
        for key in ("file_path", "normals_file_path"):
            found[key] = [path.parent / str(frame[key]) for frame in frames if key in frame]
            if len(found[key]) not in (len(cameras), 0 if key == "normals_file_path" else len(cameras)):
                raise ConfigError(
                    f"{path}: expected {key} in each frame, found it in {len(found[key])} of {len(cameras)}"
                )
        return PosedFiles(cameras, found["file_path"], found["normals_file_path"] or None)
