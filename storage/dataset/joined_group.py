"""One group from many one-subject groups: pixel files are linked, small arrays are written again.

Incompatible heads (other sizes, codec or view grid) are rejected by name.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spinmeround.storage.codec import DEFAULT_CODEC, ChunkError, ChunkLayout
from spinmeround.storage.dataset.files import LocalFiles
from spinmeround.storage.dataset.head_group import HeadEntry, HeadParts
from spinmeround.storage.dataset.schema import (
    MAX_METADATA_BYTES,
    ROWS_PER_CHUNK,
    ArraySpec,
    check_metadata,
    create_array,
    read_metadata,
)
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.files import link_or_copy
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.manifests import FileRecord, record_file, walk_files

HeadSource = HeadEntry | HeadParts


def build_group(
    folder: Path, specs: Mapping[str, ArraySpec], heads: Sequence[HeadSource], attributes: Mapping[str, Any]
) -> dict[str, FileRecord]:
    """Write the group of these heads, in this order, at `folder` and record its files by name.

    All heads are of the same class. Raises DatasetError that names the head and the array if one does not fit the
    first.
    """
    metadata = _metadata(heads[0], specs)
    sizes = check_metadata(f"head {heads[0].id}", {name: specs[name] for name in metadata}, metadata)
    if sizes["subject"] != 1:
        raise DatasetError(f"head {heads[0].id}: expected a group of one subject, found {sizes['subject']}")
    for head in heads:
        _check_fits(head, metadata, heads[0].id)
    group = zarr.create_group(folder, attributes=dict(attributes), zarr_format=3)
    if (size := (folder / "zarr.json").stat().st_size) > MAX_METADATA_BYTES:
        raise DatasetError(f"attributes: expected at most {MAX_METADATA_BYTES} bytes, got {size}; publish fewer heads")
    records: dict[str, FileRecord] = {}
    for name, spec in specs.items():
        if spec.linked and name in metadata:
            _write_metadata(folder / name, metadata[name], len(heads))
            records |= _link_files(folder, name, spec, heads)
        else:
            array = create_array(group, name, spec, {**sizes, "subject": len(heads)}, DEFAULT_CODEC)
            _write_rows(array, name, spec, heads, _reader(name, spec, sizes, metadata.get(name)))
    for name in walk_files(folder, without=records):
        records[name] = record_file(folder / name)
    return records


def _metadata(head: HeadSource, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The metadata of a head's arrays that are in groups."""
    groups = {name: head.group(name) for name in names}
    return {name: read_metadata(group / name) for name, group in groups.items() if group is not None}


def _group(head: HeadSource, name: str) -> Path:
    group = head.group(name)
    assert group is not None, f"head {head.id}: heads of one dataset are of one class"
    return group


def _check_fits(head: HeadSource, metadata: Mapping[str, dict[str, Any]], first: str) -> None:
    """Raise DatasetError unless a head's groups carry its id and are encoded as the first head's are."""
    for group in dict.fromkeys(_group(head, name) for name in metadata):
        attributes = read_metadata(group).get("attributes")
        found = attributes.get("id", head.id) if isinstance(attributes, dict) else None
        if found != head.id:
            raise DatasetError(f"head {head.id}: {group} holds the head {found}")
    own = _metadata(head, metadata)
    for name, expected in metadata.items():
        if own[name] != expected:
            raise DatasetError(
                f"head {head.id}: {name}: its size or encoding differs from that of head {first}; "
                "make all heads of a dataset with the same parameters"
            )


def _write_metadata(folder: Path, metadata: Mapping[str, Any], subjects: int) -> None:
    """Write the metadata of a one-subject array with the number of subjects replaced."""
    folder.mkdir()
    grown = {**metadata, "shape": [subjects, *metadata["shape"][1:]]}
    (folder / "zarr.json").write_text(json.dumps(grown, indent=2, allow_nan=False), encoding="utf-8")


def _link_files(folder: Path, name: str, spec: ArraySpec, heads: Sequence[HeadSource]) -> dict[str, FileRecord]:
    """Link one file per head of an array; returns their records by name below `folder`."""
    own, records = spec.file(0), {}
    for subject, head in enumerate(heads):
        file = spec.file(subject)
        source, target = _group(head, name) / name / own, folder / name / file
        if source.is_symlink() or not source.is_file():
            raise DatasetError(f"head {head.id}: {name}: {source} is missing; make the head again")
        target.parent.mkdir(parents=True)
        link_or_copy(source, target, flush=False)
        checksum = head.checksums.get(f"{name}/{own}") or sha256_file(source)
        records[f"{name}/{file}"] = FileRecord(size=source.stat().st_size, sha256=checksum)
    return records


Reader = Callable[[HeadSource], np.ndarray]
"""Returns one array of a head; raises DatasetError if it cannot be read or does not fit."""


def _reader(name: str, spec: ArraySpec, sizes: Mapping[str, int], metadata: Mapping[str, Any] | None) -> Reader:
    if metadata is None:
        return partial(_computed, name, spec, spec.shape(sizes))
    layout = ChunkLayout.from_codecs(metadata["codecs"], metadata["shape"], np.dtype(metadata["data_type"]))
    return partial(_stored, name, spec, layout)


def _stored(name: str, spec: ArraySpec, layout: ChunkLayout, head: HeadSource) -> np.ndarray:
    """A small array from a group: one chunk, whose metadata all heads share.

    Read without zarr, which takes a millisecond per array: too long for ten thousand heads with seven each.
    """
    try:
        data = LocalFiles(_group(head, name)).read(f"{name}/{spec.file(0)}", layout.largest_stored)
        return layout.values(data)
    except (ChunkError, OSError) as error:
        raise DatasetError(f"head {head.id}: {name}: cannot be read: {error}") from error


def _computed(name: str, spec: ArraySpec, shape: tuple[int, ...], head: HeadSource) -> np.ndarray:
    """An array from `HeadParts.read`, checked against the schema and the sizes of the pixel arrays."""
    assert isinstance(head, HeadParts), f"head {head.id}: heads of one dataset are of one class"
    array = head.read(name)
    if array.shape != shape or array.dtype != spec.dtype:
        raise DatasetError(
            f"head {head.id}: {name}: expected {spec.dtype} of shape {shape}, got {array.dtype} of shape {array.shape}"
        )
    return array


def _write_rows(
    array: "zarr.Array[Any]", name: str, spec: ArraySpec, heads: Sequence[HeadSource], read: Reader
) -> None:
    """Fill an array, `ROWS_PER_CHUNK` heads at a time. An array without subject axis must be equal in all heads."""
    shared = read(heads[0]) if spec.layout == "whole" else None
    if shared is not None:
        array[...] = shared
    for start in range(0, len(heads), ROWS_PER_CHUNK):
        block = heads[start : start + ROWS_PER_CHUNK]
        rows = [read(head) for head in block]
        if shared is None:
            array[start : start + len(block)] = np.concatenate(rows)
        elif other := [head.id for head, row in zip(block, rows, strict=True) if not np.array_equal(row, shared)]:
            raise DatasetError(
                f"head {other[0]}: {name}: differs from that of head {heads[0].id}; expected one view grid"
            )
