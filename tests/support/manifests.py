"""Edits the manifest of a dataset, or of its latents, as somebody who wants it to match other files would."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from spinmeround.storage.dataset.manifest import write_manifest, write_part
from spinmeround.storage.manifests import FileRecord, record_file

Listing = dict[str, FileRecord]


def edit_listing(folder: Path, change: Callable[[Listing], object]) -> str:
    """Change the records of a group's files, and write listing and manifest again; returns the new digest."""
    parts = json.loads((folder / "manifest.json").read_bytes())["parts"]
    written = {}
    for part in parts:
        records: Listing = {}
        for line in (folder / part).read_text().splitlines():
            sha256, size, name = line.split(" ")
            records[name] = FileRecord(size=int(size), sha256=sha256)
        change(records)
        written[part] = write_part(folder, part, records.items())
    return write_manifest(folder, written)


def believed(folder: Path, name: str, data: bytes) -> str:
    """Write a file and its record, so that its checksum matches; returns the new digest."""
    (folder / name).write_bytes(data)

    def change(records: Listing) -> None:
        if name in records:
            records[name] = record_file(folder / name)

    return edit_listing(folder, change)


def names(folder: Path) -> list[str]:
    """All files that the listing of a group names."""
    parts = json.loads((folder / "manifest.json").read_bytes())["parts"]
    return [line.split(" ")[2] for part in parts for line in (folder / part).read_text().splitlines()]


def digest_of(folder: Path) -> str:
    """The digest of a group, computed from the bytes of its listing."""
    parts = sorted(path for path in (folder / "listing").iterdir())
    found = [[f"listing/{part.name}", hashlib.sha256(part.read_bytes()).hexdigest()] for part in parts]
    return hashlib.sha256(json.dumps(sorted(found), separators=(",", ":")).encode()).hexdigest()
