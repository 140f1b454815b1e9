"""Predictions of other methods: a folder of pictures, named by head and view, scored by the same code as the model's.

    <head id>/<view>.png           RGB on white, or RGBA with straight alpha, whose alpha is the mask
    <head id>/<view>-normals.png   optional: normals in the world frame, round((n + 1) / 2 * 255); all views or none

`view` is the index of the view in the dataset, three digits. A missing, extra or wrongly sized picture is refused by
name. `tasks.evaluation.inputs` writes what a method needs for its pictures, with the list of the wanted files.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, one_line, printable
from spinmeround.storage.hashing import sha256_listing
from spinmeround.storage.manifests import walk_files
from spinmeround.storage.weights import checksums
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import EvaluationViews


class MethodFolder:
    """The pictures of one method, of the right names and sizes."""

    def __init__(self, name: str, folder: Path, data: HeadDataset, heads: Sequence[EvaluationViews]) -> None:
        """Checks the names and sizes of all pictures. Raises ConfigError, which names the first that is wrong."""
        self.name, self._folder, self._side = name, folder, data.sizes["height"]
        wanted = wanted_files(data, heads)
        found = self._files()
        normals = [normals_file(file) for file in wanted]
        self._has_normals = any(file in found for file in normals)
        expected = [*wanted, *(normals if self._has_normals else [])]
        self._check_names(expected, found)
        for file in expected:
            self._check_size(file)

    def read(self, head: str, targets: Sequence[int]) -> Prediction:
        """The predicted views of a head. Raises ConfigError for a picture that can't be read."""
        files = [picture_file(head, view) for view in targets]
        pictures = [self._picture(file, ("RGB", "RGBA")) for file in files]
        masks = [picture[..., 3] for picture in pictures if picture.shape[-1] == 4]
        if masks and len(masks) < len(pictures):
            raise ConfigError(
                f"{self._folder / head}: expected alpha in all pictures or in none, found it in {len(masks)} of "
                f"{len(pictures)}"
            )
        normals = [self._picture(normals_file(file), ("RGB",)) for file in files] if self._has_normals else None
        return Prediction(
            rgb=np.stack([_on_white(picture) for picture in pictures]),
            normals=None if normals is None else np.stack(normals),
            mask=np.stack(masks) if masks else None,
        )

    def fingerprint(self, head: str, targets: Sequence[int]) -> str:
        """The SHA-256 of the pictures of one head."""
        wanted = [picture_file(head, view) for view in targets]
        found = checksums(self._folder / head)
        files = [*wanted, *(normals_file(file) for file in wanted if self._has_normals)]
        return sha256_listing({file: found[file] for file in files})

    def _files(self) -> list[str]:
        if not self._folder.is_dir():
            raise ConfigError(f"{self._refused} expected a folder of pictures, found none at {self._folder}")
        try:
            return walk_files(self._folder)
        except ValueError as error:
            raise ConfigError(f"{self._refused} {error}") from error

    @property
    def _refused(self) -> str:
        return f"predictions of {self.name}:"

    def _check_names(self, wanted: Sequence[str], found: Sequence[str]) -> None:
        extra = sorted(set(found) - set(wanted))
        missing = [file for file in wanted if file not in set(found)]
        if missing:
            near = get_close_matches(missing[0], extra, n=1)
            hint = f"; rename {printable(near[0], 200)}" if near else ""
            raise ConfigError(
                f"{self._refused} expected {self._folder / missing[0]}, found no such file{_more(missing)}{hint}; "
                "'spinmeround evaluate-inputs' lists the wanted files"
            )
        if extra:
            raise ConfigError(
                f"{self._refused} expected the pictures of the evaluated views alone, found "
                f"{self._folder / printable(extra[0], 200)}{_more(extra)}; move it away"
            )

    def _check_size(self, file: str) -> None:
        with self._opened(file) as image:
            if image.size != (self._side, self._side):
                raise ConfigError(
                    f"{self._refused} {self._folder / file}: expected {self._side} x {self._side} pixels, found "
                    f"{image.width} x {image.height}"
                )

    def _picture(self, file: str, modes: Sequence[str]) -> UInt8[np.ndarray, "height width channel"]:
        with self._opened(file) as image:
            if image.mode not in modes:
                raise ConfigError(
                    f"{self._refused} {self._folder / file}: expected {' or '.join(modes)} of 8 bits, found "
                    f"{image.mode}"
                )
            try:
                return np.asarray(image)
            except Exception as error:  # Pillow raises what it meets: OSError, SyntaxError, IndexError, ...
                raise self._unreadable(file, error) from error

    def _opened(self, file: str) -> Image.Image:
        try:
            return Image.open(self._folder / file, formats=["PNG"])
        except Exception as error:
            raise self._unreadable(file, error) from error

    def _unreadable(self, file: str, error: Exception) -> ConfigError:
        return ConfigError(f"{self._refused} {self._folder / file}: expected a PNG, found {one_line(error, 150)}")


def picture_file(head: str, view: int) -> str:
    """The name of a predicted picture within a method's folder."""
    return f"{head}/{view:03d}.png"


def wanted_files(data: HeadDataset, heads: Iterable[EvaluationViews]) -> list[str]:
    """The names of the pictures that a method must predict, in the order of the evaluation."""
    return [picture_file(data.ids[views.subject], view) for views in heads for view in views.targets]


def normals_file(picture: str) -> str:
    """The name of the normals of a predicted picture."""
    return picture.removesuffix(".png") + "-normals.png"


def _more(files: Sequence[str]) -> str:
    return f" (and {len(files) - 1} more)" if len(files) > 1 else ""


def _on_white(picture: UInt8[np.ndarray, "height width channel"]) -> UInt8[np.ndarray, "height width 3"]:
    if picture.shape[-1] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.float32) / 255.0
    blended: np.ndarray = np.rint(picture[..., :3] * alpha + 255.0 * (1.0 - alpha))
    return blended.astype(np.uint8)
