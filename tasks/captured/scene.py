"""Photographed heads before they are those of a dataset: cameras with their calibration, and where their files are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from spinmeround.models.geometry.cameras import is_rotation
from spinmeround.models.geometry.pixel_camera import PixelCamera
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.captured.params import CaptureParams
from spinmeround.tasks.pictures.files import read_alpha, read_mask
from spinmeround.tasks.pictures.photos import NO_NORMAL, picture_size, read_photo


@dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """A frame of a video, by its number from 0."""

    path: Path
    number: int


Source = Path | VideoFrame
"""Where a picture is."""


@dataclass(frozen=True, kw_only=True)
class CapturedView:
    """One picture with its camera, whose size is the picture's.

    `mask` holds alpha, and None leaves that of the picture, if it has any. `normals` are in the head's world frame.
    """

    name: str
    camera: PixelCamera
    picture: Source
    mask: Source | None = None
    normals: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CapturedHead:
    """The views of one head, in a world frame and a unit of the capture's own."""

    id: str
    views: tuple[CapturedView, ...]

    @property
    def has_normals(self) -> bool:
        """Whether all views have normals; a head with some has none."""
        return all(view.normals is not None for view in self.views)

    def chosen(self, views: list[int]) -> "CapturedHead":
        """The head with these views alone."""
        return replace(self, views=tuple(self.views[view] for view in views))


@dataclass(frozen=True, kw_only=True)
class HeadSource:
    """A head that a folder holds; `read` reads its calibration, and raises ConfigError or ValueError."""

    id: str
    read: Callable[[], CapturedHead]


Layout = Callable[[Path, CaptureParams], list[HeadSource]]
"""Lists the heads in a folder. Raises ConfigError for a folder of another layout."""


@dataclass(frozen=True, kw_only=True)
class CapturedPicture:
    """RGB composited on white, and alpha; `cut_out` is whether a mask or the picture's own alpha gave it."""

    rgb: UInt8[np.ndarray, "height width 3"]
    alpha: UInt8[np.ndarray, "height width"]
    cut_out: bool


def read_picture(view: CapturedView) -> CapturedPicture:
    """The picture of a view on white. Raises ConfigError for one of another size, or none that can be read."""
    own = None
    if isinstance(view.picture, VideoFrame):
        rgb = _video_frame(view.picture)
    else:
        rgb, own = np.asarray(read_photo(view.picture).picture), read_alpha(view.picture)
    _check_size(view.picture, rgb, view.camera.size)
    alpha = own if view.mask is None else _mask(view.mask, view.camera.size)
    if alpha is None:
        return CapturedPicture(rgb=rgb, alpha=np.full(rgb.shape[:2], 255, np.uint8), cut_out=False)
    if view.mask is not None:
        share = alpha[..., None] / 255.0
        rgb = np.rint(rgb * share + 255.0 * (1.0 - share)).astype(np.uint8)
    return CapturedPicture(rgb=rgb, alpha=alpha, cut_out=True)


def read_normals(view: CapturedView) -> UInt8[np.ndarray, "height width 3"]:
    """The encoded normals of a view that has some. Raises ConfigError as `read_picture`."""
    assert view.normals is not None, "the caller asks heads with normals"
    found = np.asarray(read_photo(view.normals, background=NO_NORMAL, colours=False).picture)
    _check_size(view.normals, found, view.camera.size)
    return found


def size_of(source: Source) -> tuple[int, int]:
    """Width and height of a picture in pixels. Raises ConfigError if it can't be read."""
    if isinstance(source, VideoFrame):
        return _video_frame(source).shape[1::-1]
    size = picture_size(source)
    if size is None:
        raise ConfigError(f"{source}: expected a picture, found none that can be read")
    return size


def pose_of(matrix: Any, name: str) -> Float64[np.ndarray, "4 4"]:
    """`cam2world` of a matrix world-to-camera, 3x4 or 4x4, with OpenCV axes. Raises ConfigError, which begins so."""
    world2cam = np.eye(4)
    found = numbers_of(matrix, name)
    if found.shape not in ((3, 4), (4, 4)):
        raise ConfigError(f"{name}: expected 3 x 4 or 4 x 4 numbers, found shape {found.shape}")
    world2cam[: len(found)] = found
    if not is_rotation(world2cam[:3, :3]) or not np.allclose(world2cam[3], (0, 0, 0, 1)):
        raise ConfigError(f"{name}: expected a rigid matrix from world to camera, found one with scale or reflection")
    return np.linalg.inv(world2cam)


def lens_of(matrix: Any, name: str) -> Float64[np.ndarray, "3 3"]:
    """Intrinsics in pixels from a 3x3 matrix or the upper left of a 4x4 one. Raises ConfigError."""
    found = numbers_of(matrix, name)
    if found.shape not in ((3, 3), (4, 4)):
        raise ConfigError(f"{name}: expected 3 x 3 numbers, found shape {found.shape}")
    lens = found[:3, :3]
    expected = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
    if not ((lens[[0, 1], [0, 1]] > 0).all() and lens[2, 2] == 1 and not lens[~expected][:-1].any()):
        raise ConfigError(f"{name}: expected fx 0 cx, 0 fy cy, 0 0 1 in pixels, found {lens.tolist()}")
    return lens


def numbers_of(values: Any, name: str) -> Float64[np.ndarray, "..."]:
    """Finite numbers of a file. Raises ConfigError, which begins with `name`."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name}: expected numbers in rows of equal length, found others") from error
    if not np.isfinite(found).all():
        raise ConfigError(f"{name}: expected finite numbers, found NaN or infinity")
    return found


def _mask(source: Source, size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """Alpha in a grey picture or a video, at the size of the picture."""
    if isinstance(source, VideoFrame):
        grey = Image.fromarray(_video_frame(source)).convert("L")
    else:
        grey = Image.fromarray(read_mask(source))
    if abs(grey.width * size[1] - grey.height * size[0]) > max(size):
        raise ConfigError(
            f"{source}: expected a mask of {size[0]} x {size[1]}, found {grey.width} x {grey.height} pixels"
        )
    return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR))


def _check_size(source: object, picture: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> None:
    height, width = picture.shape[:2]
    if (width, height) != size:
        raise ConfigError(
            f"{source}: expected a picture of {size[0]} x {size[1]} pixels, as its camera, found {width} x {height}"
        )


def _video_frame(source: VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
    """A frame in RGB. Raises ConfigError if the video has none of this number."""
    import cv2

    video = cv2.VideoCapture(str(source.path))
    try:
        frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.set(cv2.CAP_PROP_POS_FRAMES, source.number)
        read, frame = video.read()
    finally:
        video.release()
    if not read:
        raise ConfigError(f"{source.path}: expected a video with the frame {source.number}, found {frames} frames")
    return np.ascontiguousarray(frame[..., ::-1])
