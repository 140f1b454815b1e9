"""Reading a dataset: checked when it is opened, then a few views of one head at a time."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pydantic import ValidationError

from storage.dataset_publish import LATENTS, read_manifest
from storage.dataset_schema import ARRAYS, LATENT_ARRAYS, SCHEMA_VERSION, ArraySpec, check_arrays, read_metadata
from storage.dataset_split import SPLITS, SplitFractions, split_of
from storage.errors import DatasetError

PER_VIEW: Mapping[str, ArraySpec] = {
    **{name: spec for name, spec in ARRAYS.items() if spec.linked},
    **{f"{LATENTS}/{name}": spec for name, spec in LATENT_ARRAYS.items()},
}
"""Arrays that `read_views` takes, by name."""


class HeadDataset:
    """A dataset opened for reading; subjects are numbered from 0 in the order of `ids`."""

    def __init__(self, path: Path, attributes: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.path = path
        self.attributes = attributes
        self.sizes = sizes
        self.ids: tuple[str, ...] = tuple(attributes["ids"])
        self._arrays: dict[str, zarr.Array[Any]] = {}

    @classmethod
    def open(cls, path: Path) -> "HeadDataset":
        """Open the dataset at `path`. Raises DatasetError where it is none, is too new or breaks the schema."""
        path = Path(path)
        if not path.is_dir():
            raise DatasetError(f"{path}: expected a dataset folder, found none; build one with `spinmeround build`")
        attributes = read_metadata(path).get("attributes")
        if not isinstance(attributes, dict):
            raise DatasetError(f"{path}: expected group attributes, found {attributes!r}")
        _check_attributes(path, attributes)
        sizes = check_arrays(path, ARRAYS)
        if len(attributes["ids"]) != sizes["subject"]:
            raise DatasetError(f"{path}: expected {sizes['subject']} ids, found {len(attributes['ids'])}")
        return cls(path, attributes, sizes)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def views(self) -> int:
        return self.sizes["view"]

    @cached_property
    def digest(self) -> str:
        """The digest that the manifest states; `verify` computes it from the files."""
        return read_manifest(self.path).digest

    @cached_property
    def seeds(self) -> np.ndarray:
        """Seed of each head, int64 [S]."""
        return self._read("seed", ...)

    @cached_property
    def identities(self) -> np.ndarray:
        """Identity embedding of each head, float32 [S, 512], unit length."""
        return self._read("identity", ...)

    def cameras(self, subject: int = 0) -> dict[str, np.ndarray]:
        """Cameras of one head, by the field names of `models.geometry.cameras.Cameras`: a row a view."""
        return {
            "cam2world": self._read("cam2world", self._subject(subject)),
            "intrinsics": self._read("intrinsics", self._subject(subject)),
            "azimuth_deg": self._read("azimuth", ...),
            "elevation_deg": self._read("elevation", ...),
        }

    def split(self, name: str) -> list[int]:
        """Subjects of the split `train`, `validation` or `test`, by the rule of `storage.dataset_split`."""
        if name not in SPLITS:
            raise DatasetError(f"split {name!r}: expected one of {', '.join(SPLITS)}")
        fractions = SplitFractions.model_validate(self.attributes["split"])
        return [subject for subject, id in enumerate(self.ids) if split_of(id, fractions) == name]

    def read_views(
        self, subject: int, views: Sequence[int], arrays: Sequence[str] = ("rgb", "normals", "mask")
    ) -> dict[str, np.ndarray]:
        """Some views of one head, by array name, each [len(views), ...] as it is on disk.

        `arrays` may name what is in `PER_VIEW`, `latents/rgb` and `latents/normals` among them. Raises
        DatasetError that names the head and the array where a file is missing or damaged.
        """
        if not all(0 <= view < self.views for view in views):
            raise DatasetError(f"views {list(views)}: expected numbers from 0 to {self.views - 1}")
        return {name: self._read_rows(self._subject(subject), list(views), name) for name in arrays}

    @property
    def has_latents(self) -> bool:
        return (self.path / LATENTS / "zarr.json").is_file()

    def latents_attributes(self) -> dict[str, Any]:
        """What is known of the latents: `autoencoder` (fingerprint) and what was given with them."""
        if not self.has_latents:
            raise DatasetError(f"{self.path}: expected latents, found none; run the stage encode")
        attributes = read_metadata(self.path / LATENTS).get("attributes")
        if not isinstance(attributes, dict):
            raise DatasetError(f"{self.path / LATENTS}: expected group attributes, found {attributes!r}")
        return attributes

    def _subject(self, subject: int) -> int:
        if not 0 <= subject < len(self):
            raise DatasetError(f"subject {subject}: expected a number from 0 to {len(self) - 1}")
        return subject

    def _read_rows(self, subject: int, views: list[int], name: str) -> np.ndarray:
        if name not in PER_VIEW:
            raise DatasetError(f"array {name!r}: expected one of {', '.join(PER_VIEW)}")
        spec = PER_VIEW[name]
        file = self.path / name / spec.file(subject)
        if file.is_symlink() or not file.is_file():
            what = "is a link" if file.is_symlink() else "is missing"
            raise DatasetError(f"head {self.ids[subject]}: {name}: {file} {what}; run `spinmeround dataset verify`")
        if spec.layout == "subject" or len(views) in (0, self.views):
            return self._read(name, subject)[views]
        return np.stack([self._read(name, (subject, view)) for view in views])

    def _read(self, name: str, selection: Any) -> np.ndarray:
        try:
            if name not in self._arrays:
                self._arrays[name] = self._open_array(name)
            return np.asarray(self._arrays[name][selection])
        except DatasetError:
            raise
        except Exception as error:  # a damaged file fails in zarr and its codecs in many ways
            first = selection[0] if isinstance(selection, tuple) else selection
            head = f"head {self.ids[first]}: " if isinstance(first, int) else ""
            raise DatasetError(
                f"{self.path}: {head}{name} cannot be read ({error}); run `spinmeround dataset verify`"
            ) from error

    def _open_array(self, name: str) -> "zarr.Array[Any]":
        if name.startswith(LATENTS):
            sizes = check_arrays(self.path / LATENTS, LATENT_ARRAYS)
            if (sizes["subject"], sizes["view"]) != (len(self), self.views):
                raise DatasetError(f"{self.path}: latents: expected those of {len(self)} heads, {self.views} views")
        return zarr.open_array(self.path / name, mode="r")


def _check_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    version, ids = attributes.get("schema_version"), attributes.get("ids")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "use a newer version of the software" if newer else "expected a dataset made by `publish`"
        raise DatasetError(f"{path}: schema version {version!r}, this software reads {SCHEMA_VERSION}; {hint}")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids) or len(set(ids)) != len(ids):
        raise DatasetError(f"{path}: attribute ids: expected a list of different texts")
    try:
        SplitFractions.model_validate(attributes.get("split"))
    except ValidationError as error:
        raise DatasetError(f"{path}: attribute split: {' '.join(str(error).split())}") from error
