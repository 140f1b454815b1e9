"""One pass over every byte of a dataset and its latents, before something long is computed from them.

A pass leaves a stamp next to the dataset, `.<name>.checked`: a hash of the digests and of the sizes and times of all
files. While the stamp matches, the next pass reads nothing.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from spinmeround.storage.dataset.manifest import DatasetManifest, open_manifest
from spinmeround.storage.dataset.publish import LATENTS
from spinmeround.storage.dataset.reader import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.files import write_atomic
from spinmeround.storage.manifests import FileRecord, content_problem

_SHOWN = 3


def check_content(
    dataset: HeadDataset,
    *,
    threads: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Compare all files of a local dataset, latents included, with its manifests; returns whether they were read.

    `threads` 0 is one per core; `on_progress` gets (files done, files). Raises DatasetError that names the files that
    are damaged or missing.
    """
    manifests = list(_manifests(dataset))
    stamp = dataset.path.parent / f".{dataset.path.name}.checked"
    expected = _stamp(dataset, manifests).encode()
    with suppress(OSError):
        if expected and stamp.read_bytes() == expected:
            return False
    total, done = sum(len(records) for records in _blocks(manifests)), 0
    found: list[str] = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1, "check") as pool:  # hashing releases the GIL
        for records in _blocks(manifests):
            for problem in pool.map(lambda item: content_problem(dataset.path, *item), records.items()):
                found += [problem] if problem else []
                done += 1
                on_progress(done, total)
    if found:
        more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        raise DatasetError(
            f"{dataset.path}: expected the files of its manifest, found that {'; '.join(found[:_SHOWN])}{more}; "
            "run `spinmeround dataset verify --repair`"
        )
    with suppress(OSError):  # a folder that cannot be written to is checked each time
        write_atomic(stamp, expected)
    return True


def _manifests(dataset: HeadDataset) -> Iterator[DatasetManifest]:
    yield open_manifest(dataset.files)
    if dataset.has_latents:
        yield open_manifest(dataset.files, LATENTS)


def _blocks(manifests: Sequence[DatasetManifest]) -> Iterator[dict[str, FileRecord]]:
    """The records of all files, by name below the dataset, one part of a listing at a time."""
    for manifest in manifests:
        for records in manifest.blocks():
            yield {manifest.prefix + name: record for name, record in records.items()}


def _stamp(dataset: HeadDataset, manifests: Sequence[DatasetManifest]) -> str:
    """What changes with the digests and with the size or time of a file; empty if a file is missing."""
    states = hashlib.sha256(" ".join(manifest.digest for manifest in manifests).encode())
    try:
        for records in _blocks(manifests):
            for name in records:
                found = os.lstat(dataset.path / name)
                states.update(f"\n{name} {found.st_size} {found.st_mtime_ns}".encode())
    except OSError:
        return ""
    return states.hexdigest()
