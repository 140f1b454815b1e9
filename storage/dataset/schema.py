"""Schema 1 of the dataset: its arrays, their division into chunks, and the accepted metadata.

The group of one head and a published dataset have the same arrays and differ in the number of subjects. Layouts:
`view` has one shard per subject and one chunk per view, `subject` one chunk per subject, `rows` one chunk per 256
subjects, `whole` a single chunk. Metadata files are checked as plain JSON before zarr reads them, so that a file cannot
request a codec or data type outside this schema.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.codecs import Crc32cCodec

from spinmeround.storage.codec import PixelCodec, codec_problem
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.records import FrozenModel

SCHEMA_VERSION = 1
ROWS_PER_CHUNK = 256
MAX_SIDE = 16384
MAX_METADATA_BYTES = 64 * 1024 * 1024

Layout = Literal["view", "subject", "rows", "whole"]


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

    def file(self, index: int) -> str:
        """Name of the chunk file with this index along the first axis, below the array's folder."""
        return f"c/{index}" + "/0" * (len(self.axes) - 1)

    def files(self, sizes: Mapping[str, int]) -> list[tuple[str, range]]:
        """All chunk files, each with the range of its indices along the first axis."""
        step, count = self.chunks(sizes)[0], self.shape(sizes)[0]
        starts = range(0, count, step)
        return [(self.file(start // step), range(start, min(start + step, count))) for start in starts]


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


def create_array(
    group: zarr.Group, name: str, spec: ArraySpec, sizes: Mapping[str, int], codec: PixelCodec
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
        dimension_names=[axis for axis, _ in spec.axes],
        config={"write_empty_chunks": True},
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """A `zarr.json` as plain JSON. Raises DatasetError if it is missing, a link, too large or not a JSON object."""
    path = folder / "zarr.json"
    if path.is_symlink() or not path.is_file():
        raise DatasetError(f"{path}: expected a Zarr v3 metadata file, found none")
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise DatasetError(f"{path}: expected at most {MAX_METADATA_BYTES} bytes, found {path.stat().st_size}")
    return parse_metadata(path.read_bytes(), path)


def parse_metadata(data: bytes, path: Path | str) -> dict[str, Any]:
    """Parse the bytes of a `zarr.json`. Raises DatasetError, which names the path, if they are not Zarr v3 metadata."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(found, dict) or found.get("zarr_format") != 3:
        raise DatasetError(f"{path}: expected Zarr format 3")
    return found


def check_arrays(folder: Path, specs: Mapping[str, ArraySpec]) -> dict[str, int]:
    """Sizes of the axes (subject, view, height, ...) of a group. Raises DatasetError for other arrays."""
    return check_metadata(folder, specs, {name: read_metadata(folder / name) for name in specs})


def check_metadata(
    folder: Path | str, specs: Mapping[str, ArraySpec], found: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Like `check_arrays`, for parsed metadata; `folder` only appears in errors."""
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        _check_array(f"{folder}/{name}", found[name], spec, sizes)
    return sizes


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
    if keys != {"name": "default", "configuration": {"separator": "/"}}:
        raise DatasetError(f"{folder}: expected the default chunk keys with separator '/', found {keys}")
    if found.get("storage_transformers"):
        raise DatasetError(f"{folder}: expected no storage transformers, found {found['storage_transformers']}")
    inner = [1, 1, *spec.chunks(sizes)[2:]] if spec.layout == "view" else None
    if problem := codec_problem(found.get("codecs"), inner_chunk=inner, filtered=spec.filtered):
        raise DatasetError(f"{folder}: {problem}")
