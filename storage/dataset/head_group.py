"""Arrays of one head, in the dataset's own chunk, shard and codec layout.

The stage that makes a pixel array writes it in this layout (`write_pictures`), and the dataset links the file, so
pixels are encoded once and stored once. `write_head` writes all arrays of a head. `head_files` describes the files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, UInt8

from spinmeround.storage.codec import DEFAULT_CODEC, ChunkError, PixelCodec, codec_of
from spinmeround.storage.dataset.files import LocalFiles
from spinmeround.storage.dataset.head_files import HeadFiles, open_head, write_arrays
from spinmeround.storage.dataset.schema import (
    ARRAYS,
    LATENT_ARRAYS,
    SCHEMA_VERSION,
    ArraySpec,
    check_metadata,
)
from spinmeround.storage.dataset.shard_layout import ShardLayout
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.numbers import check_arrays as check_numbers
from spinmeround.storage.records import HeadArrays

PICTURES: Mapping[str, ArraySpec] = {name: spec for name, spec in ARRAYS.items() if spec.layout == "view"}
"""The pixel arrays, one shard a head."""


@dataclass(frozen=True, kw_only=True)
class HeadEntry:
    """A head whose arrays are in one folder.

    `checksums` are the SHA-256 of the folder's files by name, if the caller has just verified them (an artifact's
    manifest); missing ones are computed.
    """

    id: str
    folder: Path
    checksums: Mapping[str, str] = field(default_factory=dict)

    def group(self, name: str) -> Path:
        """The folder that holds an array."""
        return self.folder


@dataclass(frozen=True, kw_only=True)
class HeadParts:
    """A head whose pixel arrays are in several folders, and whose other arrays are computed.

    `pictures` maps each pixel array to its folder, with `checksums` as in `HeadEntry`. `read` returns any other array
    by name, with the axes of the schema; it is called when the array is written.
    """

    id: str
    pictures: Mapping[str, Path]
    read: Callable[[str], np.ndarray]
    checksums: Mapping[str, str] = field(default_factory=dict)

    def group(self, name: str) -> Path | None:
        """The folder that holds an array; None if `read` returns it."""
        return self.pictures.get(name)


def write_head(folder: Path, head: HeadArrays, codec: PixelCodec = DEFAULT_CODEC) -> None:
    """Write all arrays of one head into `folder`.

    Raises DatasetError if the arrays disagree in their sizes or have the wrong data type, and SpinMeRoundError for
    numbers that are not finite or blank where they can't be (`storage.numbers`).
    """
    arrays = {name: getattr(head, name)[None] for name in PICTURES} | _small_arrays(head)
    _write_group(folder, f"head {head.id}", ARRAYS, arrays, _named(head.id), codec)


def write_pictures(folder: Path, id: str, codec: PixelCodec, **pictures: UInt8[np.ndarray, "..."]) -> None:
    """Write some pixel arrays of a head, [view, height, width(, 3)], named as in the schema, into `folder`."""
    specs = {name: PICTURES[name] for name in pictures}
    arrays = {name: array[None] for name, array in pictures.items()}
    _write_group(folder, f"head {id}", specs, arrays, _named(id), codec)


def read_pictures(folder: Path, *names: str) -> dict[str, UInt8[np.ndarray, "..."]]:
    """Pixel arrays [view, height, width(, 3)] of one head. Raises DatasetError if one cannot be read."""
    head = _checked(folder, *names)
    return {name: _read_picture(head, name) for name in names}


def pictures_codec(folder: Path, name: str) -> PixelCodec:
    """The codec of a pixel array of one head."""
    return codec_of(_checked(folder, name).metadata(name))


def _checked(folder: Path, *names: str) -> HeadFiles:
    """The files of a head, whose pixel arrays of these names match the schema."""
    head = open_head(folder)
    check_metadata(folder, {name: PICTURES[name] for name in names}, {name: head.metadata(name) for name in names})
    return head


def _small_arrays(head: HeadArrays) -> dict[str, np.ndarray]:
    """All other arrays of a head, as in the schema."""
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
    """Write one head's latents, uncompressed, into `folder`. Raises DatasetError as `write_head`."""
    arrays = {"rgb": rgb_latents[None], "normals": normal_latents[None]}
    _write_group(folder, "latents", LATENT_ARRAYS, arrays, {"schema_version": SCHEMA_VERSION}, DEFAULT_CODEC)


def _named(id: str) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "id": id}


def _read_picture(head: HeadFiles, name: str) -> np.ndarray:
    try:
        layout = ShardLayout.from_metadata(head.metadata(name))
        out = np.empty((layout.chunks, *layout.chunk.stored_shape), layout.chunk.dtype)
        file = head.chunk(name, PICTURES[name])
        with LocalFiles(head.folder).shard(file, layout.index_size, at_end=layout.index_at_end) as blob:
            layout.read(blob, range(layout.chunks), out)
    except ChunkError as error:
        raise DatasetError(f"{head.folder}: {name}: {error}; make the head again") from error
    return layout.chunk.as_written(out)


def _write_group(
    folder: Path,
    subject: str,
    specs: Mapping[str, ArraySpec],
    arrays: Mapping[str, np.ndarray],
    named: Mapping[str, Any],
    codec: PixelCodec,
) -> None:
    sizes = _sizes(subject, specs, arrays)
    check_numbers(subject, {name: arrays[name] for name in specs})
    write_arrays(folder, named, specs, sizes, arrays, codec)


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
