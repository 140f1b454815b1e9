"""The files of one head's arrays, as artifacts hold them: one file per array, and one for the metadata of all.

    arrays.json    {"schema_version", "id", "arrays": {name: the array's zarr.json}}
    <name>.chunk   the array's only chunk file: for pixels and latents the shard, which a dataset links

A Zarr group of one subject, as version 0.1.0 wrote it, is read too. There an array takes a folder for itself and one
for each axis, eight files and folders in all.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import MemoryStore

from spinmeround.storage.codec import PixelCodec
from spinmeround.storage.dataset.schema import (
    MAX_METADATA_BYTES,
    SEPARATORS,
    ArraySpec,
    create_array,
    parse_metadata,
    read_document,
    read_metadata,
    separator_of,
)
from spinmeround.storage.errors import DatasetError, environment_errors

INDEX = "arrays.json"


@dataclass(frozen=True, kw_only=True)
class HeadFiles:
    """The arrays of one head in a folder. `id` is None in a group that names no head, such as latents."""

    folder: Path
    id: str | None
    arrays: Mapping[str, Any] | None
    """Metadata by array; None for a Zarr group, whose arrays have files of their own."""

    def metadata(self, name: str) -> dict[str, Any]:
        """The metadata of an array, not checked yet. Raises DatasetError if there are none."""
        if self.arrays is None:
            return read_metadata(self.folder / name)
        found = self.arrays.get(name)
        if not isinstance(found, dict):
            raise DatasetError(f"{self.folder / INDEX}: expected the array {name}, found none")
        return found

    def chunk(self, name: str, spec: ArraySpec) -> str:
        """Name of the array's only chunk file, below `folder`. The metadata must have been checked."""
        if self.arrays is None:
            return f"{name}/{spec.file(0, separator_of(self.metadata(name)))}"
        return f"{name}.chunk"


def open_head(folder: Path) -> HeadFiles:
    """The arrays of one head. Raises DatasetError if the folder holds none, or metadata that are not valid JSON."""
    if not (folder / INDEX).exists() and (folder / "zarr.json").exists():
        attributes = read_metadata(folder).get("attributes")
        return HeadFiles(folder=folder, id=_id(attributes), arrays=None)
    found = read_document(folder / INDEX, "the arrays of a head")
    arrays = found.get("arrays")
    if not isinstance(arrays, dict):
        raise DatasetError(f"{folder / INDEX}: arrays: expected a map of metadata, found {type(arrays).__name__}")
    return HeadFiles(folder=folder, id=_id(found), arrays=arrays)


def chunk_names(name: str, spec: ArraySpec) -> Iterator[str]:
    """All names that the chunk file of an array may have in the folder of a head."""
    yield f"{name}.chunk"
    for separator in SEPARATORS:
        yield f"{name}/{spec.file(0, separator)}"


def write_arrays(
    folder: Path,
    named: Mapping[str, Any],
    specs: Mapping[str, ArraySpec],
    sizes: Mapping[str, int],
    arrays: Mapping[str, Any],
    codec: PixelCodec,
) -> None:
    """Write arrays with one subject as files of `folder`; `named` goes into the metadata."""
    written: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(written), zarr_format=3)
    metadata: dict[str, Any] = {}
    with environment_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, spec in specs.items():
            create_array(group, name, spec, sizes, codec)[...] = arrays[name]
            metadata[name] = parse_metadata(written.pop(f"{name}/zarr.json").to_bytes(), folder / name)
            (folder / f"{name}.chunk").write_bytes(written.pop(f"{name}/{spec.file(0)}").as_numpy_array())
        data = json.dumps({**named, "arrays": metadata}, allow_nan=False).encode()  # in zarr's order, as a dataset
        if len(data) > MAX_METADATA_BYTES:
            raise DatasetError(f"{folder / INDEX}: expected at most {MAX_METADATA_BYTES} bytes, got {len(data)}")
        (folder / INDEX).write_bytes(data)


def _id(attributes: object) -> str | None:
    found = attributes.get("id") if isinstance(attributes, dict) else None
    return None if found is None else str(found)
