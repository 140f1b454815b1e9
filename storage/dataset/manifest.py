"""The manifest of a frozen group: SHA-256 and size of every file, and one digest of them all.

    manifest.json             {"schema_version": 2, "digest", "parts": {name: {"size", "sha256"}}}
    listing/shared.txt        the files that all heads share: metadata, cameras, identities, seeds
    listing/heads-00000.txt   the files of heads 0 to 4095, and so on

A line of the listing is `<sha256> <size> <name>`. The digest is the SHA-256 of the canonical list of (part, SHA-256),
so opening a dataset reads the small `manifest.json` and the shared part, and a check of every file reads one part of
the listing after the other: neither holds the records of all heads. Manifests of version 1 list every file in
`manifest.json` itself.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from spinmeround.storage.codec import ChunkError
from spinmeround.storage.dataset.files import DatasetFiles, LocalFiles
from spinmeround.storage.errors import DatasetError, NewerDataset, validation_message
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_json, sha256_listing
from spinmeround.storage.manifests import FileRecord, RelativeName, Sha256, checksums_of, stated_version
from spinmeround.storage.records import FrozenModel

MANIFEST, LISTING = "manifest.json", "listing"
MANIFEST_VERSION = 2
MAX_MANIFEST_BYTES = 1024 * 1024 * 1024
"""Of the manifest and of each part of the listing, for readers and writers alike."""
HEADS_PER_PART = 4096
SHARED = f"{LISTING}/shared.txt"
ADVICE = "run `spinmeround dataset verify`"
_LINE = re.compile(rb"([0-9a-f]{64}) (0|[1-9][0-9]{0,14}) ([a-z0-9_./]{1,200})\n")
_UNSAFE = (b" /", b" .", b"//", b"/.", b"..", b"/\n")
"""What no listing contains: absolute names, `..`, and names of folders."""
_PARTS_HELD = 2

Records = Mapping[str, FileRecord]


class _Document(FrozenModel):
    """The content of `manifest.json`."""

    schema_version: Literal[2] = 2
    digest: Sha256
    parts: dict[RelativeName, FileRecord]


class _FirstDocument(FrozenModel):
    """The content of `manifest.json` in version 1."""

    schema_version: Literal[1] = 1
    digest: Sha256
    files: dict[RelativeName, FileRecord]


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """The records of a frozen group's files, which are read from its listing as they are needed.

    `listed` are the parts of the listing or, in version 1, all files.
    """

    source: DatasetFiles
    prefix: str
    version: int
    digest: str
    listed: Records
    _held: OrderedDict[str, Records] = field(default_factory=OrderedDict, repr=False, compare=False)

    @property
    def place(self) -> str:
        """Path or address of the manifest, for messages."""
        return f"{self.source.root}/{self.prefix}{MANIFEST}"

    def digest_of_listed(self, attributes: Mapping[str, Any] | None = None) -> str:
        """The digest that the manifest should state. `attributes` are those of a group of latents, else None."""
        if self.version == 1 and attributes is not None:
            listing = {name: sha256 for name, sha256 in checksums_of(self.listed).items() if name != "zarr.json"}
            return sha256_json([{name: value for name, value in attributes.items() if name != "digest"}, listing])
        return sha256_listing(checksums_of(self.listed))

    def check_parts(self, heads: int) -> None:
        """Raise DatasetError unless the listing has the parts that this number of heads needs."""
        expected = [SHARED, *(part_of(block[0]) for block in head_blocks(heads))]
        if self.version > 1 and sorted(self.listed) != sorted(expected):
            raise DatasetError(
                f"{self.place}: expected the {len(expected)} parts of a listing of {heads} heads, found "
                f"{len(self.listed)} or other ones; {ADVICE}"
            )

    def shared(self) -> Records:
        """Records of the files that all heads share; in version 1, of all files. Raises DatasetError for damage."""
        return self.listed if self.version == 1 else self._part(SHARED)

    def heads(self, subject: int) -> Records:
        """The part of the listing with the files of this head; in version 1, all files. Raises as `shared`."""
        return self.listed if self.version == 1 else self._part(part_of(subject))

    def record(self, name: str, subject: int | None = None) -> FileRecord | None:
        """The record of a file, which belongs to this head or, for None, to all; None if it is not listed."""
        return (self.shared() if subject is None else self.heads(subject)).get(name)

    @property
    def parts(self) -> Records:
        """The parts of the listing, none in version 1."""
        return {} if self.version == 1 else self.listed

    def blocks(self) -> Iterator[Records]:
        """All records, one part of the listing at a time. Raises DatasetError for a damaged part."""
        if self.version == 1:
            yield self.listed
            return
        yield self.shared()
        for name in sorted(self.listed.keys() - {SHARED}):
            yield self._part(name)

    def _part(self, name: str) -> Records:
        if name not in self._held:
            self._held[name] = self._read(name)
            while len(self._held) > _PARTS_HELD:
                self._held.popitem(last=False)
        return self._held[name]

    def _read(self, name: str) -> Records:
        place = f"{self.source.root}/{self.prefix}{name}"
        expected = self.listed.get(name)
        if expected is None:
            raise DatasetError(f"{place}: expected its record in {MANIFEST}, found none; {ADVICE}")
        try:
            data = self.source.read(f"{self.prefix}{name}", MAX_MANIFEST_BYTES)
        except ChunkError as error:
            raise DatasetError(f"expected the listing of a dataset: {error}; {ADVICE}") from error
        if len(data) != expected.size or hashlib.sha256(data).hexdigest() != expected.sha256:
            raise DatasetError(f"{place}: its content does not match its SHA-256 in {MANIFEST}; {ADVICE}")
        return _parse_part(data, place)


def head_blocks(heads: int) -> Iterator[range]:
    """The heads of each part of the listing."""
    return (range(start, min(start + HEADS_PER_PART, heads)) for start in range(0, heads, HEADS_PER_PART))


def part_of(subject: int) -> str:
    """Name of the part of the listing with the files of this head."""
    return f"{LISTING}/heads-{subject // HEADS_PER_PART:05d}.txt"


def open_manifest(files: DatasetFiles, group: str = "") -> DatasetManifest:
    """The manifest of the dataset (group "") or of its latents; the listing is not read.

    Raises DatasetError if it is missing, invalid, unsafe or too new.
    """
    prefix = f"{group}/" if group else ""
    try:
        data = files.read(f"{prefix}{MANIFEST}", MAX_MANIFEST_BYTES)
    except ChunkError as error:
        root = f"{files.root}/{group}" if group else files.root
        raise DatasetError(f"{root}: expected the manifest of a dataset: {error}") from error
    found = _document(data, f"{files.root}/{prefix}{MANIFEST}")
    listed = found.parts if isinstance(found, _Document) else found.files
    return DatasetManifest(
        source=files, prefix=prefix, version=found.schema_version, digest=found.digest, listed=listed
    )


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of a frozen group in a folder; raises as `open_manifest`."""
    return open_manifest(LocalFiles(folder))


def stated_digest(data: bytes, place: str) -> str:
    """The digest in the bytes of a manifest; raises as `open_manifest`, with `place` in the message."""
    return _document(data, place).digest


def _document(data: bytes, place: str) -> _Document | _FirstDocument:
    if (version := stated_version(data)) > MANIFEST_VERSION:
        raise NewerDataset(
            f"{place}: schema version {version}, this software reads up to {MANIFEST_VERSION}; use a newer version"
        )
    try:
        return (_Document if version == MANIFEST_VERSION else _FirstDocument).model_validate_json(data)
    except ValidationError as error:
        raise DatasetError(f"{place}: expected the manifest of a dataset, found {validation_message(error)}") from error


def _parse_part(data: bytes, place: str) -> Records:
    rows = _LINE.findall(data)
    records = {name.decode(): FileRecord(size=int(size), sha256=sha256.decode()) for sha256, size, name in rows}
    lines = sum(len(sha256) + len(size) + len(name) + 3 for sha256, size, name in rows)
    if lines != len(data) or any(unsafe in data for unsafe in _UNSAFE):
        raise DatasetError(f"{place}: expected lines of SHA-256, size and name, found others; {ADVICE}")
    if len(records) != len(rows):
        raise DatasetError(f"{place}: expected each name once; {ADVICE}")
    return records


def write_part(folder: Path, part: str, records: Iterable[tuple[str, FileRecord]]) -> FileRecord:
    """Write a part of the listing below `folder`; returns its own record. Raises DatasetError if it is too large."""
    data = "".join(f"{record.sha256} {record.size} {name}\n" for name, record in records).encode()
    _check_size(part, data)
    (folder / LISTING).mkdir(exist_ok=True)
    (folder / part).write_bytes(data)
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_manifest(folder: Path, parts: Records) -> str:
    """Write `manifest.json` for the listing in `folder`; returns the digest."""
    digest = sha256_listing(checksums_of(parts))
    data = _Document(digest=digest, parts=dict(sorted(parts.items()))).model_dump_json(indent=1).encode()
    _check_size(MANIFEST, data)
    write_atomic(folder / MANIFEST, data)
    return digest


def _check_size(name: str, data: bytes) -> None:
    if len(data) > MAX_MANIFEST_BYTES:
        raise DatasetError(
            f"dataset: {name}: expected at most {MAX_MANIFEST_BYTES} bytes, got {len(data)}; publish fewer heads"
        )
