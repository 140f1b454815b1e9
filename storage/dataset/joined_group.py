"""One group out of many one-subject groups: pixel files are linked, small arrays are written anew.

Heads that don't fit together (other sizes, other codec, other grid of views) are refused by name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spinmeround.storage.codec import DEFAULT_CODEC, ChunkError, ChunkLayout
from spinmeround.storage.dataset.files import LocalFiles
from spinmeround.storage.dataset.head_group import HeadEntry
from spinmeround.storage.dataset.schema import ROWS_PER_CHUNK, ArraySpec, check_arrays, create_array, read_metadata
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.files import link_or_copy
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.manifests import FileRecord, record_file, walk_files


def build_group(
    folder: Path, specs: Mapping[str, ArraySpec], heads: Sequence[HeadEntry], attributes: Mapping[str, Any]
) -> dict[str, FileRecord]:
    """Write the group of these heads, in this order, at `folder` and record its files by name.

    Raises DatasetError that names the head and the array where one does not fit the first.
    """
    sizes = check_arrays(heads[0].folder, specs)
    if sizes["subject"] != 1:
        raise DatasetError(f"{heads[0].folder}: expected a group of one subject, found {sizes['subject']}")
    metadata = {name: read_metadata(heads[0].folder / name) for name in specs}
    for head in heads:
        _check_fits(head, metadata, heads[0].id)
    sizes["subject"] = len(heads)
    group = zarr.create_group(folder, attributes=dict(attributes), zarr_format=3)
    records: dict[str, FileRecord] = {}
    for name, spec in specs.items():
        if spec.linked:
            _write_metadata(folder / name, metadata[name], sizes["subject"])
            records |= _link_files(folder, name, spec, heads)
        else:
            array = create_array(group, name, spec, sizes, DEFAULT_CODEC)
            _write_rows(array, _Small(name=name, spec=spec, layout=_layout(metadata[name])), heads)
    for name in walk_files(folder, without=records):
        records[name] = record_file(folder / name)
    return records


def _check_fits(head: HeadEntry, metadata: Mapping[str, dict[str, Any]], first: str) -> None:
    """Raise DatasetError unless a head's group carries its id and is encoded as the first head's is."""
    attributes = read_metadata(head.folder).get("attributes")
    found = attributes.get("id", head.id) if isinstance(attributes, dict) else None
    if found != head.id:
        raise DatasetError(f"head {head.id}: {head.folder} holds the head {found}")
    for name, expected in metadata.items():
        if read_metadata(head.folder / name) != expected:
            raise DatasetError(
                f"head {head.id}: {name}: its size or encoding differs from that of head {first}; "
                "make all heads of a dataset with the same parameters"
            )


def _write_metadata(folder: Path, metadata: Mapping[str, Any], subjects: int) -> None:
    """The metadata of a one-subject array, grown to all subjects."""
    folder.mkdir()
    grown = {**metadata, "shape": [subjects, *metadata["shape"][1:]]}
    (folder / "zarr.json").write_text(json.dumps(grown, indent=2))


def _link_files(folder: Path, name: str, spec: ArraySpec, heads: Sequence[HeadEntry]) -> dict[str, FileRecord]:
    """Take over one file a head of an array; returns their records by name below `folder`."""
    own, records = spec.file(0), {}
    for subject, head in enumerate(heads):
        file = spec.file(subject)
        source, target = head.folder / name / own, folder / name / file
        if source.is_symlink() or not source.is_file():
            raise DatasetError(f"head {head.id}: {name}: {source} is missing; make the head again")
        target.parent.mkdir(parents=True)
        link_or_copy(source, target, flush=False)
        checksum = head.checksums.get(f"{name}/{own}") or sha256_file(source)
        records[f"{name}/{file}"] = FileRecord(size=source.stat().st_size, sha256=checksum)
    return records


@dataclass(frozen=True, kw_only=True)
class _Small:
    """A small array of a group of one head: one chunk, whose metadata all heads share.

    zarr takes a millisecond to open and read one, which ten thousand heads with seven each can't afford.
    """

    name: str
    spec: ArraySpec
    layout: ChunkLayout

    def read(self, head: HeadEntry) -> np.ndarray:
        """Its values; raises DatasetError where it can't be read."""
        try:
            data = LocalFiles(head.folder).read(f"{self.name}/{self.spec.file(0)}", self.layout.largest_stored)
            return self.layout.values(data)
        except (ChunkError, OSError) as error:
            raise DatasetError(f"head {head.id}: {self.name}: cannot be read: {error}") from error


def _layout(metadata: Mapping[str, Any]) -> ChunkLayout:
    return ChunkLayout.from_codecs(metadata["codecs"], metadata["shape"], np.dtype(metadata["data_type"]))


def _write_rows(array: "zarr.Array[Any]", small: _Small, heads: Sequence[HeadEntry]) -> None:
    """Fill a small array, some hundred heads at a time. What has no subject axis must be the same in all heads."""
    shared = small.read(heads[0]) if small.spec.layout == "whole" else None
    if shared is not None:
        array[...] = shared
    for start in range(0, len(heads), ROWS_PER_CHUNK):
        block = heads[start : start + ROWS_PER_CHUNK]
        rows = [small.read(head) for head in block]
        if shared is None:
            array[start : start + len(block)] = np.concatenate(rows)
        elif other := [head.id for head, row in zip(block, rows, strict=True) if not np.array_equal(row, shared)]:
            raise DatasetError(
                f"head {other[0]}: {small.name}: differs from that of head {heads[0].id}; expected one grid"
            )
