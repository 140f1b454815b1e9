"""Groups of one head, in the dataset's own chunk, shard and codec layout.

The stage that makes a head writes such a group; publishing takes its pixel files over as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float16

from storage.dataset_schema import (
    ARRAYS,
    DEFAULT_CODEC,
    LATENT_ARRAYS,
    SCHEMA_VERSION,
    ArraySpec,
    PixelCodec,
    create_array,
)
from storage.errors import DatasetError, environment_errors
from storage.records import HeadArrays


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
    rows = {name: getattr(head, name) for name in ARRAYS if name not in ("seed", "status")}
    arrays = {name: array if name in ("azimuth", "elevation") else array[None] for name, array in rows.items()}
    arrays |= {"seed": np.array([head.seed], np.int64), "status": np.ones(1, np.uint8)}
    attributes = {"schema_version": SCHEMA_VERSION, "id": head.id}
    _write_group(folder, f"head {head.id}", ARRAYS, arrays, attributes, codec)


def write_latents(
    folder: Path,
    rgb_latents: Float16[np.ndarray, "view latent latent_height latent_width"],
    normal_latents: Float16[np.ndarray, "view latent latent_height latent_width"],
) -> None:
    """Write one head's latents as an uncompressed Zarr v3 group at `folder`. Raises DatasetError as `write_head`."""
    arrays = {"rgb": rgb_latents[None], "normals": normal_latents[None]}
    _write_group(folder, "latents", LATENT_ARRAYS, arrays, {"schema_version": SCHEMA_VERSION}, DEFAULT_CODEC)


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
