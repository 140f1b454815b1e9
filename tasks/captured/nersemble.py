"""NeRSemble's folders (Kirschstein et al. 2023): participants, sequences and cameras; one timestep of a sequence.

    018/calibration/camera_params.json                              of version 2; camera_params.json of version 1
    018/sequences/EXP-1-head/images/cam_222200037.mp4               version 2, and alpha_maps beside images
    018/sequences/EXP-1-head/images/cam_222200037/frame_00000.jpg   the frames of these videos
    018/sequences/EXP-1-head/frame_00000/images-2x/cam_222200037.png  version 1, and alpha_map beside images-2x

`camera_params.json` has `world_2_cam`, a 4x4 matrix with OpenCV axes by the camera's serial, and `intrinsics`, one 3x3
matrix in pixels of pictures of 2200 x 3208, or one by serial. Lenses have no distortion. Colours are those of the
files, without their colour calibration. No public source states where the matrices have the centre of the first pixel;
it is taken as OpenCV's (0, 0).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.pixel_camera import PixelCamera
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError, printable
from spinmeround.tasks.captured.params import CaptureParams
from spinmeround.tasks.captured.scene import (
    CapturedHead,
    CapturedView,
    HeadSource,
    Source,
    VideoFrame,
    lens_of,
    pose_of,
    size_of,
)

CALIBRATIONS = ("calibration/camera_params.json", "camera_params.json")
FULL_SIZE = (2200, 3208)
"""Width and height of the pictures that the calibration is of."""

_PICTURES = {"images": ("images",), "frames": ("images-2x-73fps", "images-2x", "images")}
_MASKS = {"images": ("alpha_maps", "alpha_map"), "frames": ("alpha_map-73fps", "alpha_map", "alpha_maps")}
_OFF_CENTRE = 0.2
"""Largest distance of a principal point from the picture's middle, in its sides; one of another size is farther."""


def list_nersemble(source: Path, params: CaptureParams) -> list[HeadSource]:
    """The participants in a folder, or the one that it is. Raises ConfigError for other folders."""
    if params.sequence is None:
        raise ConfigError("--sequence: expected a sequence of NeRSemble, for instance EXP-1-head, got none")
    folders = [source] if _calibration(source) else sorted(each for each in source.glob("*") if _calibration(each))
    if not folders:
        raise ConfigError(f"{source}: expected participants with {CALIBRATIONS[0]}, found none")
    names = [each.absolute().name for each in folders]
    return [
        HeadSource(id=f"nersemble-{name}", read=partial(_read, folder, f"nersemble-{name}", params))
        for name, folder in zip(names, folders, strict=True)
    ]


def _calibration(folder: Path) -> Path | None:
    return next((folder / name for name in CALIBRATIONS if (folder / name).is_file()), None)


def _read(folder: Path, id: str, params: CaptureParams) -> CapturedHead:
    path = _calibration(folder)
    assert path is not None, "listed folders have a calibration"
    found = read_json_object(path, "NeRSemble's camera_params.json")
    poses = found.get("world_2_cam")
    if not isinstance(poses, dict) or "intrinsics" not in found:
        raise ConfigError(
            f"{path}: expected world_2_cam by serial and intrinsics, found {', '.join(found) or 'nothing'}"
        )
    sequence = folder / "sequences" / str(params.sequence)
    views = [
        CapturedView(
            name=f"{path}: {serial}",
            camera=_camera(path, found, serial, size_of(picture)),
            picture=picture,
            mask=_source(sequence, _MASKS, serial, params.timestep),
        )
        for serial in sorted(poses)
        if (picture := _source(sequence, _PICTURES, printable(serial), params.timestep)) is not None
    ]
    if not views:
        raise ConfigError(
            f"{sequence}: expected the timestep {params.timestep} of the cameras in {path.name}, as "
            "images/cam_SERIAL.mp4 or frame_00000/images-2x/cam_SERIAL.png, found none"
        )
    return CapturedHead(id=id, views=tuple(views))


def _camera(path: Path, found: Mapping[str, Any], serial: str, size: tuple[int, int]) -> PixelCamera:
    """The camera of a picture of this size, which may be a smaller one of the calibrated."""
    stated = found["intrinsics"]
    name = f"{path}: intrinsics"
    if isinstance(stated, dict):
        if serial not in stated:
            raise ConfigError(f"{name}: expected a matrix of the camera {serial}, found none")
        stated, name = stated[serial], f"{name}.{serial}"
    lens = lens_of(stated, name)
    full = _calibrated_size(found, lens, size, name)
    if abs(size[0] * full[1] - size[1] * full[0]) > max(full):
        raise ConfigError(
            f"{name}: expected pictures in the ratio of {full[0]} x {full[1]}, found {size[0]} x {size[1]} pixels; "
            "cropped pictures are not those of the calibration"
        )
    pose = pose_of(found["world_2_cam"][serial], f"{path}: world_2_cam.{serial}")
    return PixelCamera(size=full, matrix=lens, cam2world=pose).resized(size)


def _calibrated_size(
    found: Mapping[str, Any], lens: Float64[np.ndarray, "3 3"], size: tuple[int, int], name: str
) -> tuple[int, int]:
    """The size that the file states, else the full one or that of the picture, in whose middle the lens has its own."""
    width, height = found.get("width"), found.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    off = {each: float(np.abs(lens[:2, 2] / np.array(each) - 0.5).max()) for each in (FULL_SIZE, size)}
    best = min(off, key=lambda each: off[each])
    if off[best] > _OFF_CENTRE:
        raise ConfigError(
            f"{name}: expected a principal point near the middle of pictures of {FULL_SIZE[0]} x {FULL_SIZE[1]} or "
            f"{size[0]} x {size[1]}, found {lens[:2, 2].tolist()}; state width and height in the file"
        )
    return best


def _source(sequence: Path, folders: Mapping[str, tuple[str, ...]], serial: str, timestep: int) -> Source | None:
    """The picture or mask of a camera, in any of the layouts; None if there is none."""
    frame = f"frame_{timestep:05d}"
    stems = [sequence / name / f"cam_{serial}" / frame for name in folders["images"]]
    stems += [sequence / frame / name / f"cam_{serial}" for name in folders["frames"]]
    for stem in stems:
        for suffix in (".png", ".jpg"):
            if (picture := stem.with_name(stem.name + suffix)).is_file():
                return picture
    videos = (sequence / name / f"cam_{serial}.mp4" for name in folders["images"])
    return next((VideoFrame(path=video, number=timestep) for video in videos if video.is_file()), None)
