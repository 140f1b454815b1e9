"""The files that the heads of a dataset share, checked against its manifest when a dataset is opened.

Metadata decide which heads, splits and cameras a reader sees, so a changed bit in them must not pass. Opening compares
the digest with the manifest, and the SHA-256 of every `zarr.json` with its record; the small arrays follow when they
are read. The files of single heads have checksums of their own and are compared with the manifest by `check_content`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydantic_core import from_json

from spinmeround.storage.codec import ChunkError, ChunkLayout
from spinmeround.storage.dataset.files import DatasetFiles, read_file
from spinmeround.storage.dataset.publish import LATENTS, MANIFEST, MAX_MANIFEST_BYTES, latents_digest, parse_manifest
from spinmeround.storage.dataset.schema import SCHEMA_VERSION, ArraySpec, check_metadata, parse_metadata
from spinmeround.storage.dataset.shard_layout import ShardLayout
from spinmeround.storage.dataset.split import SplitFractions
from spinmeround.storage.errors import DatasetError, validation_message
from spinmeround.storage.hashing import sha256_listing
from spinmeround.storage.manifests import FileRecord

_ADVICE = "run `spinmeround dataset verify`"


@dataclass(frozen=True, kw_only=True)
class SharedRecords:
    """The digest of a frozen group, and the records of the files that its heads share, by name below the dataset."""

    digest: str
    files: Mapping[str, FileRecord]

    def check(self, root: object, name: str, data: bytes) -> bytes:
        """Return the content of a file. Raises DatasetError if it differs from the manifest or is not listed."""
        record = self.files.get(name)
        if record is None:
            raise DatasetError(f"{root}/{name}: expected its record in {MANIFEST}, found none; {_ADVICE}")
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise DatasetError(f"{root}/{name}: its content does not match its SHA-256 in {MANIFEST}; {_ADVICE}")
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
    them.
    """
    prefix = f"{group}/" if group else ""
    data, listed, stated = _manifest(files, f"{prefix}{MANIFEST}")
    digest = _digest(group, metadata, listed)
    if digest != stated:
        parse_manifest(data, f"{files.root}/{prefix}{MANIFEST}")  # a fault of its form says more than the digest
        raise DatasetError(
            f"{files.root}/{prefix}{MANIFEST}: expected the digest {digest} of the files that it lists, found "
            f"{stated}; {_ADVICE}"
        )
    shared = [f"{name}/zarr.json" if name else "zarr.json" for name in metadata]
    for name, spec in specs.items():
        names = [f"{name}/{file}" for file, _ in spec.files(sizes)]
        _check_sizes(f"{files.root}/{prefix}", name, names, listed, smallest_file(spec, sizes, metadata[name]))
        shared += [] if spec.linked else names
    try:
        records = {name: FileRecord.model_validate(listed[name]) for name in shared}
    except (KeyError, ValidationError) as error:
        raise DatasetError(f"{files.root}/{prefix}{MANIFEST}: expected a record of each file: {error}") from error
    return SharedRecords(digest=digest, files={f"{prefix}{name}": record for name, record in records.items()})


def smallest_file(spec: ArraySpec, sizes: Mapping[str, int], metadata: Mapping[str, Any]) -> int:
    """The least bytes that a file of an array can have; less cannot hold what the array's shape implies."""
    try:
        if spec.layout == "view":
            layout = ShardLayout.from_metadata(metadata)
            return layout.chunks * layout.chunk.smallest_stored + layout.index_size
        return ChunkLayout.from_codecs(metadata["codecs"], spec.chunks(sizes), np.dtype(spec.dtype)).smallest_stored
    except ChunkError as error:
        raise DatasetError(f"metadata: {error}") from error


def _manifest(files: DatasetFiles, name: str) -> tuple[bytes, dict[str, dict[str, Any]], str]:
    """A manifest, and the files and the digest that it states.

    Several times as fast as `parse_manifest`, which is called for one that is not plain, to name the fault.
    """
    try:
        data = files.read(name, MAX_MANIFEST_BYTES)
    except ChunkError as error:
        raise DatasetError(f"expected the manifest of a dataset: {error}") from error
    try:
        found = from_json(data)
        listed, digest = found["files"], found["digest"]
        plain = all(type(record["size"]) is int and type(record["sha256"]) is str for record in listed.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        plain = False
    if not plain or type(digest) is not str or found.get("schema_version", 1) != 1:
        parsed = parse_manifest(data, f"{files.root}/{name}")
        return data, {each: record.model_dump() for each, record in parsed.files.items()}, parsed.digest
    return data, listed, digest


def _digest(group: str, metadata: Mapping[str, Mapping[str, Any]], listed: Mapping[str, Mapping[str, Any]]) -> str:
    checksums = {name: str(record["sha256"]) for name, record in listed.items()}
    if group == LATENTS:
        return latents_digest(metadata[""].get("attributes") or {}, checksums)
    return sha256_listing(checksums)


def _check_sizes(
    root: str, array: str, names: list[str], listed: Mapping[str, Mapping[str, Any]], smallest: int
) -> None:
    for name, size in _sizes(root, names, listed):
        if size < smallest:
            raise DatasetError(
                f"{root}{name}: expected at least {smallest} bytes for the shape of {array}, found {size}; {_ADVICE}"
            )


def _sizes(root: str, names: list[str], listed: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    for name in names:
        if name not in listed:
            raise DatasetError(f"{root}{name}: expected its record in {MANIFEST}, found none; {_ADVICE}")
        yield name, listed[name]["size"]


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
    try:
        SplitFractions.model_validate(attributes.get("split"))
    except ValidationError as error:
        raise DatasetError(f"{path}: attribute split: {validation_message(error)}") from error
