"""The files that the heads of a dataset share, checked against its manifest when a dataset is opened.

Metadata decide which heads, splits and cameras a reader sees, so a changed bit in them must not pass. Opening compares
the digest with the manifest, and the SHA-256 of every `zarr.json` with its record; the small arrays follow when they
are read. The files of single heads have checksums of their own and are compared with the manifest by `check_content`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from spinmeround.storage.codec import ChunkError, ChunkLayout
from spinmeround.storage.dataset.files import DatasetFiles, read_file
from spinmeround.storage.dataset.manifest import ADVICE, MANIFEST, DatasetManifest, open_manifest
from spinmeround.storage.dataset.publish import LATENTS
from spinmeround.storage.dataset.schema import (
    SCHEMA_VERSION,
    WITHOUT_NORMALS,
    ArraySpec,
    Separator,
    check_metadata,
    parse_metadata,
    separator_of,
    shared_files,
)
from spinmeround.storage.dataset.shard_layout import ShardLayout
from spinmeround.storage.dataset.split import SplitFractions
from spinmeround.storage.errors import DatasetError, validation_message
from spinmeround.storage.manifests import FileRecord


@dataclass(frozen=True, kw_only=True)
class SharedRecords:
    """The digest of a frozen group, and the records of the files that its heads share, by name below the dataset."""

    digest: str
    files: Mapping[str, FileRecord]

    def check(self, root: object, name: str, data: bytes) -> bytes:
        """Return the content of a file. Raises DatasetError if it differs from the manifest or is not listed."""
        record = self.files.get(name)
        if record is None:
            raise DatasetError(f"{root}/{name}: expected its record in {MANIFEST}, found none; {ADVICE}")
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise DatasetError(f"{root}/{name}: its content does not match its SHA-256 in {MANIFEST}; {ADVICE}")
        return data


def shared_records(
    files: DatasetFiles,
    group: str,
    specs: Mapping[str, ArraySpec],
    sizes: Mapping[str, int],
    metadata: Mapping[str, Mapping[str, Any]],
) -> SharedRecords:
    """The records of the dataset (group "") or of its latents, from a manifest whose digest matches.

    `metadata` are the parsed `zarr.json` of the arrays and, under "", of the group; they must match the schema. Raises
    DatasetError for another digest, for files that are not listed, and for arrays too large for the files that hold
    them. Of the heads' own files, those of the first head are looked at; a reader checks the others when it opens them.
    """
    prefix = f"{group}/" if group else ""
    manifest = open_manifest(files, group)
    attributes = (metadata[""].get("attributes") or {}) if group == LATENTS else None
    if (digest := manifest.digest_of_listed(attributes)) != manifest.digest:
        raise DatasetError(
            f"{manifest.place}: expected the digest {digest} of the files that it lists, found {manifest.digest}; "
            f"{ADVICE}"
        )
    manifest.check_parts(sizes["subject"])
    separator = separator_of(metadata[next(iter(specs))])
    shared = manifest.shared()
    records = {name: _listed(manifest, name, shared.get(name)) for name in shared_files(specs, sizes, separator)}
    for name, spec in specs.items():
        smallest = smallest_file(spec, sizes, metadata[name])
        for index in range(1 if spec.linked else spec.count(sizes)):
            file = f"{name}/{spec.file(index, separator)}"
            record = _listed(manifest, file, manifest.record(file, 0)) if spec.linked else records[file]
            if record.size < smallest:
                raise DatasetError(
                    f"{files.root}/{prefix}{file}: expected at least {smallest} bytes for the shape of {name}, found "
                    f"{record.size}; {ADVICE}"
                )
    return SharedRecords(digest=digest, files={f"{prefix}{name}": record for name, record in records.items()})


def _listed(manifest: DatasetManifest, name: str, record: FileRecord | None) -> FileRecord:
    if record is None:
        raise DatasetError(f"{manifest.place}: expected a record of {name}, found none; {ADVICE}")
    return record


def smallest_file(spec: ArraySpec, sizes: Mapping[str, int], metadata: Mapping[str, Any]) -> int:
    """The least bytes that a file of an array can have; less cannot hold what the array's shape implies."""
    try:
        if spec.layout == "view":
            layout = ShardLayout.from_metadata(metadata)
            return layout.chunks * layout.chunk.smallest_stored + layout.index_size
        return ChunkLayout.from_codecs(metadata["codecs"], spec.chunks(sizes), np.dtype(spec.dtype)).smallest_stored
    except ChunkError as error:
        raise DatasetError(f"metadata: {error}") from error


@dataclass(frozen=True, kw_only=True)
class FrozenGroup:
    """The metadata of a frozen group, the dataset ("") or its latents, and what its manifest states.

    `metadata` are the parsed `zarr.json` of the group, under "", and of its arrays. `records` is None for a group that
    was opened without a look at its manifest.
    """

    name: str
    metadata: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, int]
    records: SharedRecords | None

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes of the group."""
        found: Mapping[str, Any] = self.metadata[""]["attributes"]
        return found

    @property
    def separator(self) -> Separator:
        """The separator of the chunk keys of its arrays."""
        return separator_of(self.metadata[next(name for name in self.metadata if name)])


def open_group(
    files: DatasetFiles,
    name: str,
    specs: Mapping[str, ArraySpec],
    check_attributes: Callable[[Mapping[str, Any]], None] = lambda attributes: None,
    *,
    checked: bool,
) -> FrozenGroup:
    """Read the metadata of a group, check them against the schema and, if `checked`, against its manifest.

    `check_attributes` is called before the arrays are looked at. Raises DatasetError for the first fault.
    """
    prefix, root = (f"{name}/", f"{files.root}/{name}") if name else ("", str(files.root))
    raw = {"": read_file(files, f"{prefix}zarr.json")}
    metadata = {"": parse_metadata(raw[""], f"{files.root}/{prefix}zarr.json")}
    if not isinstance(attributes := metadata[""].get("attributes"), dict):
        raise DatasetError(f"{root}: expected group attributes, found {attributes!r}")
    check_attributes(attributes)
    for array in specs:
        raw[array] = read_file(files, f"{prefix}{array}/zarr.json")
        metadata[array] = parse_metadata(raw[array], f"{files.root}/{prefix}{array}/zarr.json")
    sizes = check_metadata(root, specs, metadata)
    if isinstance(ids := attributes.get("ids"), list) and len(ids) != sizes["subject"]:
        raise DatasetError(f"{root}: expected {sizes['subject']} ids, found {len(ids)}")
    if not files.has(f"{prefix}{MANIFEST}"):
        raise DatasetError(
            f"{root}: expected {MANIFEST}, which is written last, found none: publishing is not complete"
        )
    records = shared_records(files, name, specs, sizes, metadata) if checked else None
    if records is not None:
        for array, data in raw.items():
            records.check(files.root, f"{prefix}{array}/zarr.json" if array else f"{prefix}zarr.json", data)
    return FrozenGroup(name=name, metadata=metadata, sizes=sizes, records=records)


def check_attributes(path: object, attributes: Mapping[str, Any]) -> None:
    """Raise DatasetError unless the attributes of a dataset's group match the schema; `path` only appears in errors."""
    version, ids = attributes.get("schema_version"), attributes.get("ids")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "use a newer version of the software" if newer else "expected a dataset of `spinmeround build`"
        raise DatasetError(f"{path}: schema version {version!r}, this software reads {SCHEMA_VERSION}; {hint}")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids) or len(set(ids)) != len(ids):
        raise DatasetError(f"{path}: attribute ids: expected a list of distinct strings")
    without = attributes.get(WITHOUT_NORMALS, [])
    if not isinstance(without, list) or not all(isinstance(id, str) for id in without) or not set(without) <= set(ids):
        raise DatasetError(f"{path}: attribute {WITHOUT_NORMALS}: expected a list of ids of the dataset's heads")
    try:
        SplitFractions.model_validate(attributes.get("split"))
    except ValidationError as error:
        raise DatasetError(f"{path}: attribute split: {validation_message(error)}") from error
