"""Schema 1 of the dataset: its arrays, their division into chunks, and the accepted metadata.

The group of one head and a published dataset have the same arrays and differ in the number of subjects. Layouts:
`view` has one shard per subject and one chunk per view, `subject` one chunk per subject, `rows` one chunk per 256
subjects, `whole` a single chunk. Metadata files are checked as plain JSON before zarr reads them, so that a file cannot
request a codec or data type outside this schema.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.codecs import Crc32cCodec

from spinmeround.storage.codec import PixelCodec, codec_problem
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.records import FrozenModel

Layout = Literal["view", "subject", "rows", "whole"]
Separator = Literal[".", "/"]

SCHEMA_VERSION = 1
ROWS_PER_CHUNK = 256
MAX_SIDE = 16384
MAX_METADATA_BYTES = 64 * 1024 * 1024
SEPARATOR: Separator = "."
"""Of chunk keys: all chunks of an array are in one folder."""
SEPARATORS: tuple[Separator, ...] = (".", "/")
"""Datasets of version 0.1.0 have "/", with a folder for each index."""
_LONGEST_INDEX = 12
CAPTURED = "captured"
"""Attribute of a dataset of photographed people: their landmarks by id, and what their cameras cover."""
WITHOUT_NORMALS = "without_normals"
"""Attribute of a dataset: the ids of its heads without normals, as of photographed people; absent if all have some."""


class ArraySpec(FrozenModel):
    """One array: data type, axes as (name, fixed size or None), and layout.

    Chunks of `raw` arrays are not compressed, and end with their CRC-32C.
    """

    dtype: str
    axes: tuple[tuple[str, int | None], ...]
    layout: Layout
    raw: bool = False
    fill: int | str = 0

    @property
    def linked(self) -> bool:
        """Whether each subject has its own files, which a dataset links unchanged."""
        return self.layout in ("view", "subject")

    @property
    def filtered(self) -> bool:
        """Whether it may use planes and the delta: images with channels."""
        return self.axes[-1][0] == "channel"

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape for these sizes of the axes."""
        return tuple(fixed if fixed is not None else sizes[name] for name, fixed in self.axes)

    def chunks(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the content of one file: the shard, for arrays with shards."""
        shape = self.shape(sizes)
        first = {"view": 1, "subject": 1, "rows": min(shape[0], ROWS_PER_CHUNK), "whole": shape[0]}[self.layout]
        return (first, *shape[1:])

    def file(self, index: int, separator: str = SEPARATOR) -> str:
        """Name of the chunk file with this index along the first axis, below the array's folder."""
        return f"c{separator}{index}" + f"{separator}0" * (len(self.axes) - 1)

    def index(self, file: str, separator: str = SEPARATOR) -> int | None:
        """The index along the first axis of the chunk file with this name; None for other files."""
        number = file.removeprefix(f"c{separator}").removesuffix(f"{separator}0" * (len(self.axes) - 1))
        plain = number.isascii() and number.isdigit() and len(number) < _LONGEST_INDEX
        return int(number) if plain and self.file(int(number), separator) == file else None

    def count(self, sizes: Mapping[str, int]) -> int:
        """Number of chunk files."""
        return -(-self.shape(sizes)[0] // self.chunks(sizes)[0])


def _axes(*names: str, **fixed: int) -> tuple[tuple[str, int | None], ...]:
    return tuple((name, fixed.get(name)) for name in names)


_PICTURE = ("subject", "view", "height", "width")
_LATENT = ("subject", "view", "latent", "latent_height", "latent_width")

ARRAYS: Mapping[str, ArraySpec] = {
    "rgb": ArraySpec(dtype="uint8", axes=_axes(*_PICTURE, "channel", channel=3), layout="view"),
    "normals": ArraySpec(dtype="uint8", axes=_axes(*_PICTURE, "channel", channel=3), layout="view"),
    "mask": ArraySpec(dtype="uint8", axes=_axes(*_PICTURE), layout="view"),
    "cam2world": ArraySpec(
        dtype="float32",
        axes=_axes("subject", "view", "pose_row", "pose_column", pose_row=4, pose_column=4),
        layout="rows",
    ),
    "intrinsics": ArraySpec(
        dtype="float32",
        axes=_axes("subject", "view", "lens_row", "lens_column", lens_row=3, lens_column=3),
        layout="rows",
    ),
    "azimuth": ArraySpec(dtype="float32", axes=_axes("view"), layout="whole"),
    "elevation": ArraySpec(dtype="float32", axes=_axes("view"), layout="whole"),
    "identity": ArraySpec(dtype="float32", axes=_axes("subject", "embedding", embedding=512), layout="rows"),
    "identity_views": ArraySpec(
        dtype="float32", axes=_axes("subject", "view", "embedding", embedding=512), layout="subject", fill="NaN"
    ),
    "seed": ArraySpec(dtype="int64", axes=_axes("subject"), layout="rows"),
    "status": ArraySpec(dtype="uint8", axes=_axes("subject"), layout="rows"),
}
"""Status is 1 for a complete head; 0 is reserved for an absent one.

Each name of an axis has one size in the whole group, as xarray requires. Earlier versions named the last axes of both
cam2world and intrinsics row and column; readers go by position.
"""

LATENT_ARRAYS: Mapping[str, ArraySpec] = {
    "rgb": ArraySpec(dtype="float16", axes=_axes(*_LATENT), layout="view", raw=True),
    "normals": ArraySpec(dtype="float16", axes=_axes(*_LATENT), layout="view", raw=True),
}


def shared_files(specs: Mapping[str, ArraySpec], sizes: Mapping[str, int], separator: Separator) -> Iterator[str]:
    """Names of the files of a group that belong to no single head."""
    yield "zarr.json"
    for name, spec in specs.items():
        yield f"{name}/zarr.json"
        for index in range(0 if spec.linked else spec.count(sizes)):
            yield f"{name}/{spec.file(index, separator)}"


def create_array(
    group: zarr.Group,
    name: str,
    spec: ArraySpec,
    sizes: Mapping[str, int],
    codec: PixelCodec,
    separator: Separator = SEPARATOR,
) -> "zarr.Array[Any]":
    """Create an empty array of the schema in a group; every written chunk gets a file, even one of zeros."""
    shape, file_shape = spec.shape(sizes), spec.chunks(sizes)
    sharded = spec.layout == "view"
    chosen = codec if spec.filtered else PixelCodec(kind="plain", level=codec.level)
    return group.create_array(
        name,
        shape=shape,
        dtype=spec.dtype,
        shards=file_shape if sharded else None,
        chunks=(1, 1, *file_shape[2:]) if sharded else file_shape,
        compressors=[Crc32cCodec()] if spec.raw else chosen.compressors(),
        filters=chosen.filters() or None,
        fill_value=float("nan") if spec.fill == "NaN" else spec.fill,
        chunk_key_encoding={"name": "default", "separator": separator},
        dimension_names=[axis for axis, _ in spec.axes],
        config={"write_empty_chunks": True},
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """A `zarr.json` as plain JSON. Raises DatasetError if it is missing, a link, too large or not of Zarr v3."""
    path = folder / "zarr.json"
    return _of_format_3(read_document(path, "a Zarr v3 metadata file"), path)


def read_document(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file. Raises DatasetError if it is missing, a link, too large or not a JSON object."""
    if path.is_symlink() or not path.is_file():
        raise DatasetError(f"{path}: expected {what}, found none")
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise DatasetError(f"{path}: expected at most {MAX_METADATA_BYTES} bytes, found {path.stat().st_size}")
    return _parsed(path.read_bytes(), path)


def parse_metadata(data: bytes, path: Path | str) -> dict[str, Any]:
    """Parse the bytes of a `zarr.json`. Raises DatasetError, which names the path, if they are not Zarr v3 metadata."""
    return _of_format_3(_parsed(data, path), path)


def _parsed(data: bytes, path: Path | str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(found, dict):
        raise DatasetError(f"{path}: expected a JSON object, found a {type(found).__name__}")
    return found


def _of_format_3(found: dict[str, Any], path: Path | str) -> dict[str, Any]:
    if found.get("zarr_format") != 3:
        raise DatasetError(f"{path}: expected Zarr format 3, found {found.get('zarr_format')!r}")
    return found


def check_metadata(
    folder: Path | str, specs: Mapping[str, ArraySpec], found: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Sizes of the axes (subject, view, height, ...) of a group. Raises DatasetError for other arrays.

    `found` are the parsed metadata of its arrays; `folder` only appears in errors.
    """
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        _check_array(f"{folder}/{name}", found[name], spec, sizes)
    if len(used := {separator_of(found[name]) for name in specs}) > 1:
        raise DatasetError(f"{folder}: expected chunk keys with one separator in all arrays, found {sorted(used)}")
    return sizes


def separator_of(metadata: Mapping[str, Any]) -> Separator:
    """The separator of the chunk keys in an array's checked metadata."""
    found: Separator = metadata["chunk_key_encoding"]["configuration"]["separator"]
    return found


def chunk_keys(separator: Separator) -> dict[str, Any]:
    """The `chunk_key_encoding` of an array's metadata."""
    return {"name": "default", "configuration": {"separator": separator}}


def _check_array(folder: str, found: Mapping[str, Any], spec: ArraySpec, sizes: dict[str, int]) -> None:
    if found.get("data_type") != spec.dtype:
        raise DatasetError(f"{folder}: expected data type {spec.dtype}, found {found.get('data_type')}")
    shape = found.get("shape")
    if not isinstance(shape, list) or len(shape) != len(spec.axes):
        raise DatasetError(f"{folder}: expected the axes {[name for name, _ in spec.axes]}, found shape {shape}")
    for size, (axis, fixed) in zip(shape, spec.axes, strict=True):
        expected = fixed if fixed is not None else sizes.setdefault(axis, size)
        if type(size) is not int or size != expected or not 1 <= size <= (MAX_SIDE if axis != "subject" else 10**9):
            raise DatasetError(f"{folder}: axis {axis}: expected the size {expected} (1 to {MAX_SIDE}), found {size}")
    _check_encoding(folder, found, spec, sizes)


def _check_encoding(folder: str, found: Mapping[str, Any], spec: ArraySpec, sizes: Mapping[str, int]) -> None:
    grid = found.get("chunk_grid", {})
    expected = {"name": "regular", "configuration": {"chunk_shape": list(spec.chunks(sizes))}}
    if grid != expected:
        raise DatasetError(f"{folder}: expected the chunk grid {expected}, found {grid}")
    keys = found.get("chunk_key_encoding")
    if keys not in [chunk_keys(separator) for separator in SEPARATORS]:
        raise DatasetError(f"{folder}: expected the default chunk keys with separator '.' or '/', found {keys}")
    if found.get("storage_transformers"):
        raise DatasetError(f"{folder}: expected no storage transformers, found {found['storage_transformers']}")
    inner = [1, 1, *spec.chunks(sizes)[2:]] if spec.layout == "view" else None
    if problem := codec_problem(found.get("codecs"), inner_chunk=inner, filtered=spec.filtered):
        raise DatasetError(f"{folder}: {problem}")
