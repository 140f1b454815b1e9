"""The views of a head that is reconstructed: read from a dataset or a folder, and divided into fitted and held out."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.camera_checks import check_cameras, check_distinct
from spinmeround.models.geometry.camera_world import check_world
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError, as_config_error
from spinmeround.tasks.generation.inputs import read_cameras, read_square
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.pictures.files import named_picture, read_alpha
from spinmeround.tasks.reconstruction.params import FolderSource, HeadSource, subject_of

_GOLDEN = 0.6180339887
"""Multiples of the golden ratio, modulo 1, are spread evenly without a period."""


@dataclass(frozen=True, kw_only=True)
class PosedPictures:
    """Views of one head: RGB on white, masks as alpha, and encoded world normals if they are known."""

    cameras: Cameras
    rgb: UInt8[np.ndarray, "view side side 3"]
    mask: UInt8[np.ndarray, "view side side"]
    normals: UInt8[np.ndarray, "view side side 3"] | None

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, views: list[int]) -> "PosedPictures":
        normals = None if self.normals is None else self.normals[views]
        return PosedPictures(cameras=self.cameras[views], rgb=self.rgb[views], mask=self.mask[views], normals=normals)


def read_source(source: HeadSource | FolderSource) -> PosedPictures:
    """All views of a source. Raises ConfigError or DatasetError for what is missing or defective."""
    return read_head(source) if isinstance(source, HeadSource) else read_folder(Path(source.folder))


def read_head(source: HeadSource) -> PosedPictures:
    """The views of a head of a dataset."""
    data = HeadDataset.open(Path(source.dataset))
    subject = subject_of(data, source.head)
    images = read_views(data, subject, range(data.views))
    normals = images.normals if data.has_normals(subject) else None
    return PosedPictures(cameras=Cameras(**data.cameras(subject)), rgb=images.rgb, mask=images.mask, normals=normals)


def read_folder(folder: Path) -> PosedPictures:
    """The frames of `transforms.json` in a folder, with their normals where it names them.

    A mask is the alpha of its picture, or else comes from the length of the normals, which have none in the background.

    Raises ConfigError for cameras that do not see the head, pictures of different sizes, and without any masks.
    """
    path = folder / "transforms.json"
    cameras, frames = read_cameras(path), read_json_object(path, "the cameras of pictures")["frames"]
    with as_config_error(f"{path}: "):
        check_cameras("frames", cameras)
        check_world("frames", cameras)
        check_distinct("frames", cameras)
    files = [named_picture(path, frame.get("file_path") or "") for frame in frames]
    rgb = _stacked(path, [np.asarray(read_square(file).picture) for file in files])
    normals = None
    if all(frame.get("normals_file_path") for frame in frames):
        named = [named_picture(path, frame["normals_file_path"], "normals_file_path") for frame in frames]
        normals = _stacked(path, [np.asarray(read_square(file, normals=True).picture) for file in named])
        if normals.shape != rgb.shape:
            raise ConfigError(
                f"{path}: expected normals of the size of the pictures, {rgb.shape[1]} px, got {normals.shape[1]} px"
            )
    alphas = [read_alpha(file) for file in files]
    if all(alpha is not None for alpha in alphas):
        mask = np.stack([alpha for alpha in alphas if alpha is not None])
    elif normals is not None:
        mask = np.stack([mask_of_normals(each) for each in normals])
    else:
        raise ConfigError(
            f"{path}: expected masks, as the alpha of the pictures or by normals (normals_file_path) in all frames, "
            "found neither"
        )
    return PosedPictures(cameras=cameras, rgb=rgb, mask=mask, normals=normals)


def mask_of_normals(normals: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "side side"]:
    """Alpha by the length of encoded normals: half where it is a half, as the evaluation's masks."""
    length: Float32[np.ndarray, "side side"] = np.linalg.norm(normals.astype(np.float32) / 255 * 2 - 1, axis=-1)
    return np.rint(255 * np.clip(2 * length - 0.5, 0, 1)).astype(np.uint8)


def _stacked(path: Path, pictures: list[np.ndarray]) -> UInt8[np.ndarray, "view side side 3"]:
    sides = sorted({len(picture) for picture in pictures})
    if len(sides) > 1:
        raise ConfigError(f"{path}: expected pictures of one size, got {sides[0]} to {sides[-1]} px")
    return np.stack(pictures)


def divided(number: int, *, fitted: int, held_out: int) -> tuple[list[int], list[int]]:
    """Indices of the fitted and of the held-out views of `number`, both evenly spread.

    The held-out ones lie at different places of equal parts, so that no period of a grid of views meets theirs.

    Raises ConfigError if fewer than 4 views remain to fit.
    """
    if number - held_out < 4:
        raise ConfigError(
            f"reconstruct.held_out: expected at least 4 views beside the held-out ones, got {number} views with "
            f"{held_out} of them held out; give more views, or hold out fewer"
        )
    starts = [part * number // held_out for part in range(held_out + 1)]
    kept = [
        start + int(part * _GOLDEN % 1 * (end - start)) for part, (start, end) in enumerate(pairwise(starts), start=1)
    ]
    rest = sorted(set(range(number)) - set(kept))
    return [rest[place] for place in _spread(len(rest), min(fitted, len(rest)))], kept


def _spread(number: int, chosen: int) -> list[int]:
    """`chosen` of `number` places: the middles of equal parts."""
    return [int((2 * place + 1) * number // (2 * chosen)) for place in range(chosen)]
