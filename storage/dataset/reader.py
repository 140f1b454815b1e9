"""Reads a dataset on a disk or in an object store: checks it when it is opened, then reads views of one head.

It reads only the requested chunks of a shard, decodes them into reused memory, and returns nothing that violates a
checksum or the schema. zarr can read the same files.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.codec import ChunkError, ChunkLayout, RecycledMemory
from spinmeround.storage.dataset.files import DatasetFiles, LocalFiles
from spinmeround.storage.dataset.manifest import MANIFEST, open_manifest
from spinmeround.storage.dataset.publish import LATENTS
from spinmeround.storage.dataset.schema import (
    ARRAYS,
    LATENT_ARRAYS,
    ROWS_PER_CHUNK,
    WITHOUT_NORMALS,
    ArraySpec,
)
from spinmeround.storage.dataset.shard_layout import ShardLayout
from spinmeround.storage.dataset.small_files import FrozenGroup, check_attributes, open_group
from spinmeround.storage.dataset.split import SPLITS, SplitFractions, split_of
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.extras import optional_dependency

PER_VIEW: Mapping[str, ArraySpec] = {
    **{name: spec for name, spec in ARRAYS.items() if spec.linked},
    **{f"{LATENTS}/{name}": spec for name, spec in LATENT_ARRAYS.items()},
}
"""Arrays that `read_views` reads, by name."""

_MOVED_DEG = 0.01
"""Angle between a camera and its place in the grid from which on the camera's own angles count."""


class HeadDataset:
    """A dataset opened for reading; subjects are numbered from 0 in the order of `ids`.

    `threads` threads read and decode the views of one call in parallel.
    """

    def __init__(
        self, files: DatasetFiles, group: FrozenGroup, threads: int = 1, latents: FrozenGroup | None = None
    ) -> None:
        self.files = files
        self.group = group
        self.threads = threads
        self.attributes, self.sizes = group.attributes, group.sizes
        self.ids: tuple[str, ...] = tuple(self.attributes["ids"])
        self._without_normals = frozenset(self.attributes.get(WITHOUT_NORMALS, ()))
        self._latents = latents
        self._layouts: dict[str, ShardLayout] = {}
        self._small: dict[str, ChunkLayout] = {}
        self._rows: dict[tuple[str, int], list[np.ndarray]] = {}
        self._row_angles: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.memory = RecycledMemory()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        threads: int = 1,
        storage_options: Mapping[str, Any] | None = None,
        checked: bool = True,
    ) -> "HeadDataset":
        """Open the dataset in a folder or at an address such as `s3://bucket/name.zarr`.

        `storage_options` are those of obstore, for an address. The metadata and the small arrays are compared with the
        manifest, unless `checked` is false. Raises DatasetError if no dataset is found, if it is too new, violates the
        schema or differs from its manifest; MissingDependency if an address needs obstore, which is not installed.
        """
        files = _files(path, storage_options or {})
        group = open_group(files, "", ARRAYS, partial(check_attributes, files.root), checked=checked)
        return cls(files, group, threads)

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "group": self.group, "threads": self.threads, "latents": self._latents}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def path(self) -> Path:
        """The folder of a local dataset. Raises DatasetError for one in an object store."""
        if not isinstance(self.files.root, Path):
            raise DatasetError(f"{self.files.root}: expected a local dataset; copy it to a folder first")
        return self.files.root

    @property
    def remote(self) -> bool:
        """Whether the dataset is in an object store."""
        return not isinstance(self.files.root, Path)

    @property
    def views(self) -> int:
        """Views of each head."""
        return self.sizes["view"]

    @cached_property
    def digest(self) -> str:
        """The digest of the dataset, as its manifest states it."""
        if self.group.records is not None:
            return self.group.records.digest
        return open_manifest(self.files).digest

    @cached_property
    def seeds(self) -> np.ndarray:
        """Seed of each head, int64 [S]."""
        return self._all_rows("seed")

    @cached_property
    def identities(self) -> np.ndarray:
        """Identity embedding of each head, float32 [S, 512], unit length."""
        return self._all_rows("identity")

    def row(self, name: str, subject: int) -> np.ndarray:
        """The row of one head in a small array with one row per head."""
        number, row = divmod(self._subject(subject), ROWS_PER_CHUNK)
        return np.asarray(self._block(name, number)[row])

    def cameras(self, subject: int = 0) -> dict[str, np.ndarray]:
        """Cameras of one head, one row per view, by the field names of `models.geometry.cameras.Cameras`.

        Angles are those of the dataset's grid; of views whose cameras are elsewhere, those of the cameras.
        """
        cam2world = self._row("cam2world", self._subject(subject))
        azimuth, elevation = self._angles_of(cam2world)
        return {
            "cam2world": cam2world.copy(),
            "intrinsics": self._row("intrinsics", self._subject(subject)).copy(),
            "azimuth_deg": azimuth.copy(),
            "elevation_deg": elevation.copy(),
        }

    def has_normals(self, subject: int) -> bool:
        """Whether a head has normals; those of a head that is declared without any are background everywhere."""
        return self.ids[self._subject(subject)] not in self._without_normals

    def nearest_view(self, azimuth_deg: float = 0.0, elevation_deg: float = 0.0) -> int:
        """Index of the view of the grid closest to a direction, by the angle between both; by default the frontal one.

        Raises ValueError for angles that are not finite.
        """
        if not (np.isfinite(azimuth_deg) and np.isfinite(elevation_deg)):
            raise ValueError(f"view: expected finite degrees, got ({azimuth_deg}, {elevation_deg})")
        cosines = _directions(*self._angles) @ _directions(*np.array([[azimuth_deg], [elevation_deg]]))[0]
        return int(cosines.round(12).argmax())

    def split(self, name: str) -> list[int]:
        """Subjects of the split `train`, `validation` or `test`, by the rule of `storage.dataset.split`."""
        if name not in SPLITS:
            raise DatasetError(f"split {name!r}: expected one of {', '.join(SPLITS)}")
        fractions = SplitFractions.model_validate(self.attributes["split"])
        return [subject for subject, id in enumerate(self.ids) if split_of(id, fractions) == name]

    def read_views(
        self, subject: int, views: Sequence[int], arrays: Sequence[str] = ("rgb", "normals", "mask")
    ) -> dict[str, np.ndarray]:
        """Views of one head by array name, each C-contiguous [len(views), ...] with the values stored on disk.

        `arrays` are names in `PER_VIEW`, including `latents/rgb` and `latents/normals`. Raises DatasetError with the
        head and the array if a file is missing or damaged.
        """
        self._subject(subject)
        stored = {name: self._buffer(subject, name, len(views)) for name in arrays if self._sharded(name)}
        self.read_into(subject, views, stored)
        found = {name: self.layout(name).chunk.as_written(out) for name, out in stored.items()}
        rest = [name for name in arrays if name not in found]
        found |= {name: self._block(name, subject)[0, list(views)] for name in rest}
        return {name: found[name] for name in arrays}

    def read_into(self, subject: int, views: Sequence[int], stored: Mapping[str, np.ndarray]) -> None:
        """Decode views of one head into arrays [len(views), *layout(name).chunk.stored_shape], by array name.

        The part of each view must be contiguous. Raises DatasetError as `read_views`.
        """
        self._subject(subject)
        if not all(0 <= view < self.views for view in views):
            raise DatasetError(f"views {list(views)}: expected numbers from 0 to {self.views - 1}")
        step = -(-len(views) // self.threads) or 1
        parts = [
            (name, views[start : start + step], out[start : start + step])
            for name, out in stored.items()
            for start in range(0, len(views), step)
        ]
        if self.threads == 1 or len(parts) < 2:
            self._read_shards(subject, parts)
        else:
            list(self._workers().map(lambda part: self._read_shards(subject, [part]), parts))

    def layout(self, name: str) -> ShardLayout:
        """On-disk layout of the shards of a pixel array or of the latents."""
        if name not in self._layouts:
            metadata = self.group_of(name).metadata[name.removeprefix(f"{LATENTS}/")]
            try:
                self._layouts[name] = ShardLayout.from_metadata(metadata)
            except ChunkError as error:
                raise DatasetError(f"{self.files.root}: {name}: {error}") from error
        return self._layouts[name]

    def group_of(self, name: str) -> FrozenGroup:
        """The group of an array: the latents if its name begins with "latents", else the dataset."""
        return self._latents_group() if name.startswith(LATENTS) else self.group

    @property
    def has_latents(self) -> bool:
        """Whether latents have been added."""
        return self.files.has(f"{LATENTS}/{MANIFEST}")

    def latents_attributes(self) -> dict[str, Any]:
        """Attributes of the latents, such as the fingerprint `autoencoder`. Raises DatasetError if no latents exist."""
        return dict(self._latents_group().attributes)

    @property
    def latents_digest(self) -> str:
        """The digest of the latents. Raises DatasetError if no latents exist."""
        records = self._latents_group().records
        return open_manifest(self.files, LATENTS).digest if records is None else records.digest

    def _latents_group(self) -> FrozenGroup:
        """The group of the latents, opened once; unchecked if the dataset was."""
        if self._latents is None:
            if not self.has_latents:
                raise DatasetError(
                    f"{self.files.root}: expected latents, found none (no file {LATENTS}/{MANIFEST}); run the stage "
                    "encode"
                )
            checked = self.group.records is not None
            found = open_group(self.files, LATENTS, LATENT_ARRAYS, checked=checked)
            if (found.sizes["subject"], found.sizes["view"]) != (len(self), self.views):
                raise DatasetError(
                    f"{self.files.root}: latents: expected {len(self)} heads with {self.views} views, found others"
                )
            self._latents = found
        return self._latents

    def _subject(self, subject: int) -> int:
        if not 0 <= subject < len(self):
            raise DatasetError(f"subject {subject}: expected a number from 0 to {len(self) - 1}")
        return subject

    def _sharded(self, name: str) -> bool:
        if name not in PER_VIEW:
            raise DatasetError(f"array {name!r}: expected one of {', '.join(PER_VIEW)}")
        return PER_VIEW[name].layout == "view"

    def _buffer(self, subject: int, name: str, views: int) -> np.ndarray:
        chunk = self.layout(name).chunk
        with self.damage(subject, name):
            return self.memory.empty((views, *chunk.stored_shape), chunk.dtype)

    def _read_shards(self, subject: int, parts: Sequence[tuple[str, Sequence[int], np.ndarray]]) -> None:
        """Decode views of one head, given as (array, views, out); announces all ranges before the first is decoded."""
        with ExitStack() as opened:
            wanted = []
            for name, views, out in parts:
                layout = self.layout(name)
                with self.damage(subject, name):
                    file = f"{name}/{PER_VIEW[name].file(subject, self.group_of(name).separator)}"
                    blob = opened.enter_context(self.files.shard(file, layout.index_size, at_end=layout.index_at_end))
                    spans = layout.spans(blob, views)
                    blob.expect(spans)
                    wanted.append((name, layout, blob, spans, out))
            for name, layout, blob, spans, out in wanted:
                with self.damage(subject, name):
                    layout.decode(blob, spans, out)

    @contextmanager
    def damage(self, subject: int, name: str) -> Iterator[None]:
        """Damage of a head's array inside the block becomes a DatasetError that names both."""
        try:
            yield
        except MemoryError as error:
            raise DatasetError(
                f"head {self.ids[subject]}: {name}: expected memory for {self.layout(name).chunk.size} bytes a view, "
                "found less; read fewer views at once"
            ) from error
        except (ChunkError, OSError) as error:
            raise DatasetError(
                f"head {self.ids[subject]}: {name}: {error}; run `spinmeround dataset verify`"
            ) from error

    def _workers(self) -> ThreadPoolExecutor:
        """Threads of this process: a fork does not inherit those of its parent."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), ThreadPoolExecutor(self.threads, "dataset"))
        return self._pool[1]

    @cached_property
    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        return self._block("azimuth", 0), self._block("elevation", 0)

    def _angles_of(self, cam2world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Azimuth and elevation of the cameras in a cached row; heads with equal cameras share a row."""
        if id(cam2world) not in self._row_angles:
            position = cam2world[:, :3, 3].astype(np.float64)
            radius = np.linalg.norm(position, axis=1)
            unit = position / np.maximum(radius, 1e-12)[:, None]
            away = np.linalg.norm(unit - _directions(*self._angles), axis=1) > np.radians(_MOVED_DEG)
            moved = away & (radius > 0)  # at the origin there is no direction
            own = np.degrees([np.arctan2(unit[:, 0], unit[:, 2]), np.arcsin(np.clip(unit[:, 1], -1.0, 1.0))])
            azimuth, elevation = np.where(moved, own, self._angles).astype(np.float32)
            self._row_angles[id(cam2world)] = azimuth, elevation
        return self._row_angles[id(cam2world)]

    def _row(self, name: str, subject: int) -> np.ndarray:
        """The row of one head in a small array. Rows are cached, equal ones once."""
        number, row = divmod(subject, ROWS_PER_CHUNK)
        if (name, number) not in self._rows:
            same = {held[0].tobytes(): held[0] for held in self._rows.values()}
            rows = self._block(name, number)
            self._rows[name, number] = [same.setdefault(row.tobytes(), row.copy()) for row in rows]
        return self._rows[name, number][row]

    def _all_rows(self, name: str) -> np.ndarray:
        """The rows of a small array for all subjects."""
        blocks = range(ARRAYS[name].count(self.sizes))
        return np.asarray(np.concatenate([self._block(name, number) for number in blocks])[: len(self)])

    def _block(self, name: str, number: int) -> np.ndarray:
        """The content of one file of an array without shards: rows of several subjects, of one subject, or all."""
        spec = ARRAYS[name]
        try:
            if name not in self._small:
                codecs, dtype = self.group.metadata[name]["codecs"], np.dtype(spec.dtype)
                self._small[name] = ChunkLayout.from_codecs(codecs, spec.chunks(self.sizes), dtype)
            layout, file = self._small[name], f"{name}/{spec.file(number, self.group.separator)}"
            data = self.files.read(file, layout.largest_stored)
            if self.group.records is not None and not spec.linked:
                self.group.records.check(self.files.root, file, data)
            return layout.values(data)
        except (ChunkError, OSError, MemoryError) as error:
            head = f"head {self.ids[number]}: " if spec.layout == "subject" else ""
            raise DatasetError(f"{self.files.root}: {head}{name}: {error}; run `spinmeround dataset verify`") from error


def _directions(azimuth_deg: np.ndarray, elevation_deg: np.ndarray) -> np.ndarray:
    """Unit vectors [view, 3] from the head to cameras at these angles."""
    az, el = np.radians([azimuth_deg, elevation_deg], dtype=np.float64)
    return np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], axis=-1)


def _files(path: Path | str, options: Mapping[str, Any]) -> DatasetFiles:
    if "://" in str(path):
        with optional_dependency(str(path)):  # only URLs need obstore
            from spinmeround.storage.dataset.remote import RemoteFiles
        return RemoteFiles(str(path), options)
    if not Path(path).is_dir():
        raise DatasetError(f"{path}: expected a dataset folder, found none; build one with `spinmeround build`")
    return LocalFiles(Path(path))
