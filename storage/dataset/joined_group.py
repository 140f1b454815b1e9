"""One Zarr group from the files of many heads: pixel files are linked, small arrays are written again.

Incompatible heads (other sizes, codec or view grid) are rejected by name.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spinmeround.storage.codec import DEFAULT_CODEC, ChunkError, ChunkLayout
from spinmeround.storage.dataset.files import LocalFiles
from spinmeround.storage.dataset.head_files import HeadFiles, open_head
from spinmeround.storage.dataset.head_group import HeadEntry, HeadParts
from spinmeround.storage.dataset.manifest import SHARED, head_blocks, part_of, write_manifest, write_part
from spinmeround.storage.dataset.schema import (
    MAX_METADATA_BYTES,
    ROWS_PER_CHUNK,
    SEPARATOR,
    ArraySpec,
    Separator,
    check_metadata,
    chunk_keys,
    create_array,
    shared_files,
)
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.files import link_or_copy
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.manifests import FileRecord, record_file

HeadSource = HeadEntry | HeadParts


def build_group(
    folder: Path,
    specs: Mapping[str, ArraySpec],
    heads: Sequence[HeadSource],
    attributes: Mapping[str, Any],
    separator: Separator = SEPARATOR,
) -> str:
    """Write the group of these heads, in this order, at `folder`, with its manifest; returns its digest.

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
    grown = {**sizes, "subject": len(heads)}
    for name, spec in specs.items():
        if spec.linked and name in metadata:
            _write_metadata(folder / name, metadata[name], len(heads), separator)
        else:
            array = create_array(group, name, spec, grown, DEFAULT_CODEC, separator)
            _write_rows(array, name, spec, heads, _reader(name, spec, sizes, metadata.get(name)))
    return write_manifest(folder, _write_listing(folder, specs, heads, grown, separator, linked=metadata.keys()))


def _write_listing(
    folder: Path,
    specs: Mapping[str, ArraySpec],
    heads: Sequence[HeadSource],
    sizes: Mapping[str, int],
    separator: Separator,
    *,
    linked: Collection[str],
) -> dict[str, FileRecord]:
    """Link the files of the heads into a group, and list all its files; returns the records of the listing's parts."""
    own = {name: spec for name, spec in specs.items() if spec.linked}

    def own_files(subject: int) -> Iterator[tuple[str, FileRecord]]:
        for name, spec in own.items():
            file = f"{name}/{spec.file(subject, separator)}"
            found = _link(heads[subject], name, spec, folder / file) if name in linked else record_file(folder / file)
            yield file, found

    parts = {}
    for block in head_blocks(len(heads)):
        records = (each for subject in block for each in own_files(subject))
        parts[part_of(block[0])] = write_part(folder, part_of(block[0]), records)
    shared = sorted(shared_files(specs, sizes, separator))
    return {SHARED: write_part(folder, SHARED, ((name, record_file(folder / name)) for name in shared)), **parts}


def _metadata(head: HeadSource, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The metadata of a head's arrays that are in folders."""
    folders = {name: folder for name in names if (folder := head.group(name)) is not None}
    opened = {folder: open_head(folder) for folder in set(folders.values())}
    return {name: opened[folder].metadata(name) for name, folder in folders.items()}


def _files(head: HeadSource, name: str) -> HeadFiles:
    folder = head.group(name)
    assert folder is not None, f"head {head.id}: heads of one dataset are of one class"
    return open_head(folder)


def _check_fits(head: HeadSource, metadata: Mapping[str, dict[str, Any]], first: str) -> None:
    """Raise DatasetError unless a head's files carry its id and are encoded as the first head's are."""
    opened = {folder: open_head(folder) for name in metadata if (folder := head.group(name)) is not None}
    for folder, found in opened.items():
        if found.id not in (None, head.id):
            raise DatasetError(f"head {head.id}: {folder} holds the head {found.id}")
    for name, expected in metadata.items():
        folder = head.group(name)
        if folder is None or _encoding(opened[folder].metadata(name)) != _encoding(expected):
            raise DatasetError(
                f"head {head.id}: {name}: its size or encoding differs from that of head {first}; "
                "make all heads of a dataset with the same parameters"
            )


def _encoding(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without the names of the chunk files, which an earlier version chose differently."""
    return {name: value for name, value in metadata.items() if name != "chunk_key_encoding"}


def _write_metadata(folder: Path, metadata: Mapping[str, Any], subjects: int, separator: Separator) -> None:
    """Write the metadata of a one-subject array with the number of subjects and the chunk keys replaced."""
    folder.mkdir()
    shape = [subjects, *metadata["shape"][1:]]
    grown = {**metadata, "shape": shape, "chunk_key_encoding": chunk_keys(separator)}
    (folder / "zarr.json").write_text(json.dumps(grown, indent=2, allow_nan=False), encoding="utf-8")


def _link(head: HeadSource, name: str, spec: ArraySpec, target: Path) -> FileRecord:
    """Link the file of a head's array to `target`; returns its record."""
    files = _files(head, name)
    chunk = files.chunk(name, spec)
    source = files.folder / chunk
    if source.is_symlink() or not source.is_file():
        raise DatasetError(f"head {head.id}: {name}: {source} is missing; make the head again")
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, target, flush=False)
    checksum = head.checksums.get(chunk) or sha256_file(source)
    return FileRecord(size=source.stat().st_size, sha256=checksum)


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
        files = _files(head, name)
        return layout.values(LocalFiles(files.folder).read(files.chunk(name, spec), layout.largest_stored))
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
