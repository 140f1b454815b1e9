"""A dataset of any number of heads: metadata, listing and small arrays are complete, and the shards are not there.

All heads are one head of noise under different ids, so that a million of them take seconds to write: the files of the
small arrays are hard links to one file each, and the heads' own files are listed but linked only for `present` heads.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spinmeround.storage.dataset import ARRAYS, HeadEntry, publish
from spinmeround.storage.dataset.manifest import SHARED, head_blocks, part_of, write_manifest, write_part
from spinmeround.storage.dataset.schema import ROWS_PER_CHUNK, shared_files
from spinmeround.storage.manifests import FileRecord, record_file
from tests.support.heads import write_heads

VIEWS = 2
_LINKS_OF_A_FILE = 50_000
"""File systems allow 65,000 (ext4) or more."""


def write_synthetic(root: Path, heads: int, *, present: int = 0) -> Path:
    """Write a dataset of this many heads below `root`; returns its folder. `present` heads have their own files."""
    one = _published(root)
    dataset = root / f"{heads}.zarr"
    sizes = {"subject": heads, "view": VIEWS, "height": 8, "width": 8}
    _write_metadata(one, dataset, heads)
    first = {name: record_file(one / name / spec.file(0)) for name, spec in ARRAYS.items()}
    parts = {}
    for block in head_blocks(heads):
        parts[part_of(block[0])] = write_part(dataset, part_of(block[0]), _own_records(block, first))
    for name, spec in ARRAYS.items():
        _link(one / name / spec.file(0), dataset / name, spec.file, present if spec.linked else spec.count(sizes))
    shared = sorted(shared_files(ARRAYS, sizes, "."))
    parts[SHARED] = write_part(dataset, SHARED, ((name, _shared_record(dataset, name, first)) for name in shared))
    write_manifest(dataset, parts)
    return dataset


def _published(root: Path) -> Path:
    """A dataset of the same head under 256 ids: a chunk of each small array."""
    (head,) = write_heads(root / "head", range(1), views=VIEWS)
    index = json.loads((head.folder / "arrays.json").read_bytes())
    del index["id"]  # so that the folder is of any head
    (head.folder / "arrays.json").write_text(json.dumps(index))
    heads = [HeadEntry(id=f"{number:03d}", folder=head.folder) for number in range(ROWS_PER_CHUNK)]
    return publish(root / "one", heads, {}).path


def _write_metadata(one: Path, dataset: Path, heads: int) -> None:
    group = json.loads((one / "zarr.json").read_bytes())
    group["attributes"]["ids"] = [f"procedural-{number:06d}" for number in range(heads)]
    dataset.mkdir()
    (dataset / "zarr.json").write_text(json.dumps(group, indent=2))
    for name, spec in ARRAYS.items():
        found = json.loads((one / name / "zarr.json").read_bytes())
        if spec.axes[0][0] == "subject":
            found["shape"][0] = heads
        (dataset / name).mkdir()
        (dataset / name / "zarr.json").write_text(json.dumps(found, indent=2))


def _own_records(subjects: range, first: Mapping[str, FileRecord]) -> Iterator[tuple[str, FileRecord]]:
    own = [(name, spec) for name, spec in ARRAYS.items() if spec.linked]
    return ((f"{name}/{spec.file(subject)}", first[name]) for subject in subjects for name, spec in own)


def _shared_record(dataset: Path, name: str, first: Mapping[str, FileRecord]) -> FileRecord:
    array, _, file = name.partition("/")
    return record_file(dataset / name) if not file or file == "zarr.json" else first[array]


def _link(source: Path, folder: Path, name_of: Any, count: int) -> None:
    """Make `count` chunk files of an array, which are links to a few copies of the source."""
    for start in range(0, count, _LINKS_OF_A_FILE):
        copy = folder / name_of(start)
        copy.write_bytes(source.read_bytes())
        for index in range(start + 1, min(start + _LINKS_OF_A_FILE, count)):
            os.link(copy, folder / name_of(index))
