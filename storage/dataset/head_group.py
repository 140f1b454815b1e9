"""Groups of one head, in the dataset's own chunk, shard and codec layout.

The stage that makes a picture writes it so (`write_pictures`), the group of the whole head takes those files over
(`join_head`), and so does the dataset: pixels are encoded once, and lie on the disk once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float16, UInt8

from spinmeround.storage.codec import DEFAULT_CODEC, ChunkError, PixelCodec, codec_of
from spinmeround.storage.dataset.files import LocalFiles
from spinmeround.storage.dataset.schema import (
    ARRAYS,
    LATENT_ARRAYS,
    SCHEMA_VERSION,
    ArraySpec,
    check_arrays,
    create_array,
    read_metadata,
)
from spinmeround.storage.dataset.shard_layout import ShardLayout
from spinmeround.storage.errors import DatasetError, environment_errors
from spinmeround.storage.files import link_or_copy
from spinmeround.storage.records import HeadArrays

PICTURES: Mapping[str, ArraySpec] = {name: spec for name, spec in ARRAYS.items() if spec.layout == "view"}
"""The pixel arrays, one shard a head."""


@dataclass(frozen=True, kw_only=True)
class HeadEntry:
    """A head's id and the folder of its one-subject group.

    `checksums` are the SHA-256 of the group's files by name, where the caller has just verified them (an
    artifact's manifest); those that are not given are computed.
    """

    id: str
    folder: Path
    checksums: Mapping[str, str] = field(default_factory=dict)


def write_head(folder: Path, head: HeadArrays, codec: PixelCodec = DEFAULT_CODEC) -> None:
    """Write one head as a Zarr v3 group at `folder` (new, or empty but for other files).

    Raises DatasetError where arrays disagree in their sizes or have another data type.
    """
    arrays = {name: getattr(head, name)[None] for name in PICTURES} | _small_arrays(head)
    _write_group(folder, f"head {head.id}", ARRAYS, arrays, _named(head.id), codec)


def write_pictures(folder: Path, id: str, codec: PixelCodec, **pictures: UInt8[np.ndarray, "..."]) -> None:
    """Write some of a head's pixel arrays, [view, height, width(, 3)] by their names in the schema, as such a group."""
    specs = {name: PICTURES[name] for name in pictures}
    arrays = {name: array[None] for name, array in pictures.items()}
    _write_group(folder, f"head {id}", specs, arrays, _named(id), codec)


def read_pictures(folder: Path, *names: str) -> dict[str, UInt8[np.ndarray, "..."]]:
    """Pixel arrays [view, height, width(, 3)] of a one-head group. Raises DatasetError where they can't be read."""
    check_arrays(folder, {name: PICTURES[name] for name in names})
    return {name: _read_picture(folder, name) for name in names}


def pictures_codec(folder: Path, name: str) -> PixelCodec:
    """How a pixel array of a one-head group is compressed."""
    check_arrays(folder, {name: PICTURES[name]})
    return codec_of(read_metadata(folder / name))


def join_head(folder: Path, id: str, pictures: Mapping[str, Path], rows: Mapping[str, np.ndarray]) -> None:
    """Write the group of a whole head: pixel arrays from the groups that have them, small arrays as given.

    Files of pixels are linked (copied where the file system has no links). `rows` are as in the schema, with the
    subject's axis. Raises DatasetError where the parts don't fit together.
    """
    specs = {name: spec for name, spec in ARRAYS.items() if name not in PICTURES}
    _write_group(folder, f"head {id}", specs, rows, _named(id), DEFAULT_CODEC)
    with environment_errors(folder):
        for name, source in pictures.items():
            if (found := (read_metadata(source).get("attributes") or {}).get("id")) != id:
                raise DatasetError(f"head {id}: {name}: {source} holds the head {found}")
            for file in ("zarr.json", PICTURES[name].file(0)):
                (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(source / name / file, folder / name / file, flush=False)
    check_arrays(folder, ARRAYS)


def _small_arrays(head: HeadArrays) -> dict[str, np.ndarray]:
    """The arrays of a head that are no pixels, as in the schema."""
    per_subject = ("cam2world", "intrinsics", "identity", "identity_views")
    return {
        **{name: getattr(head, name)[None] for name in per_subject},
        "azimuth": head.azimuth,
        "elevation": head.elevation,
        "seed": np.array([head.seed], np.int64),
        "status": np.ones(1, np.uint8),
    }


def write_latents(
    folder: Path,
    rgb_latents: Float16[np.ndarray, "view latent latent_height latent_width"],
    normal_latents: Float16[np.ndarray, "view latent latent_height latent_width"],
) -> None:
    """Write one head's latents as an uncompressed Zarr v3 group at `folder`. Raises DatasetError as `write_head`."""
    arrays = {"rgb": rgb_latents[None], "normals": normal_latents[None]}
    _write_group(folder, "latents", LATENT_ARRAYS, arrays, {"schema_version": SCHEMA_VERSION}, DEFAULT_CODEC)


def _named(id: str) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "id": id}


def _read_picture(folder: Path, name: str) -> np.ndarray:
    try:
        layout = ShardLayout.from_metadata(read_metadata(folder / name))
        out = np.empty((layout.chunks, *layout.chunk.stored_shape), layout.chunk.dtype)
        with LocalFiles(folder).shard(
            f"{name}/{PICTURES[name].file(0)}", layout.index_size, at_end=layout.index_at_end
        ) as blob:
            layout.read(blob, range(layout.chunks), out)
    except ChunkError as error:
        raise DatasetError(f"{folder}: {name}: {error}; make the head again") from error
    return np.ascontiguousarray(layout.chunk.as_written(out))


def _write_group(
    folder: Path,
    subject: str,
    specs: Mapping[str, ArraySpec],
    arrays: Mapping[str, np.ndarray],
    attributes: dict[str, Any],
    codec: PixelCodec,
) -> None:
    sizes = _sizes(subject, specs, arrays)
    with environment_errors(folder):
        group = zarr.create_group(folder, attributes=attributes, zarr_format=3)
        for name, spec in specs.items():
            create_array(group, name, spec, sizes, codec)[...] = arrays[name]


def _sizes(subject: str, specs: Mapping[str, ArraySpec], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        array = arrays[name]
        axes = [axis for axis, _ in spec.axes]
        if array.dtype != spec.dtype or array.ndim != len(axes):
            raise DatasetError(
                f"{subject}: {name}: expected {spec.dtype} with axes {axes}, got {array.dtype} of shape {array.shape}"
            )
        for size, (axis, fixed) in zip(array.shape, spec.axes, strict=True):
            expected = fixed if fixed is not None else sizes.setdefault(axis, size)
            if size != expected or size == 0:
                raise DatasetError(f"{subject}: {name}: expected {expected} along {axis}, got {size}")
    return sizes
