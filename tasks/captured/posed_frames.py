"""Posed frames of a transforms.json, as nerfstudio and `dataset export --as nerfstudio` write them.

    transforms.json    one frame per view: camera, file_path and, where they are there, mask_path and normals_file_path

A folder with a transforms.json is one head, by the folder's name; otherwise each folder in it that has one is a head.
Normals are in the file's world frame, (n + 1) / 2 * 255.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.models.geometry.pixel_camera import PixelCamera
from spinmeround.models.geometry.transforms import frames_of_transforms, normalised_matrix
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError, as_config_error
from spinmeround.tasks.captured.params import CaptureParams
from spinmeround.tasks.captured.scene import CapturedHead, CapturedView, HeadSource, size_of
from spinmeround.tasks.pictures.files import named_picture

DOCUMENT = "transforms.json"


def list_posed_frames(source: Path, params: CaptureParams) -> list[HeadSource]:
    """The heads of a folder. Raises ConfigError if there is no transforms.json."""
    folders = (
        [source] if (source / DOCUMENT).is_file() else sorted(path.parent for path in source.glob(f"*/{DOCUMENT}"))
    )
    if not folders:
        raise ConfigError(f"{source}: expected {DOCUMENT}, in it or in folders in it, found none")
    return [HeadSource(id=each.absolute().name, read=partial(_read, each.absolute())) for each in folders]


def _read(folder: Path) -> CapturedHead:
    path = folder / DOCUMENT
    document = read_json_object(path, "a transforms.json")

    def picture_of(number: int) -> Path:
        found = _named(path, document["frames"][number], number, "file_path")
        if found is None:
            raise ValueError(f"frames[{number}].file_path: expected the name of a picture, found none")
        return found

    with as_config_error(f"{path}: "):
        poses, lenses = frames_of_transforms(document, lambda number: size_of(picture_of(number)), distorted_too=True)
        views = []
        for number, (pose, lens) in enumerate(zip(poses, lenses, strict=True)):
            picture = picture_of(number)
            size = size_of(picture)
            matrix = normalised_matrix(lens, number)
            matrix[:2] *= np.array(size)[:, None]
            matrix[:2, 2] -= 0.5  # the file counts from the corner of the first pixel
            others = {key: _named(path, document["frames"][number], number, key) for key in _OTHERS}
            camera = PixelCamera(size=size, matrix=matrix, cam2world=pose, coefficients=lens.coefficients or ())
            views.append(
                CapturedView(
                    name=f"{path}: frames[{number}]",
                    camera=camera,
                    picture=picture,
                    mask=others["mask_path"],
                    normals=others["normals_file_path"],
                )
            )
    return CapturedHead(id=folder.name, views=tuple(views))


_OTHERS = ("mask_path", "normals_file_path")


def _named(path: Path, frame: Mapping[str, Any], number: int, key: str) -> Path | None:
    """The picture that a frame names. Raises ValueError for anything but text."""
    name = frame.get(key)
    if name is not None and not isinstance(name, str):
        raise ValueError(f"frames[{number}].{key}: expected the name of a picture, found {name!r}")
    return named_picture(path, name, key) if name else None
