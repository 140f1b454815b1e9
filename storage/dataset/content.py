"""One pass over every byte of a dataset and its latents, before something long is computed from them.

A pass leaves a stamp next to the dataset, `.<name>.checked`: a hash of the digests and of the sizes and times of all
files. While the stamp matches, the next pass reads nothing.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from spinmeround.storage.dataset.publish import LATENTS, read_manifest
from spinmeround.storage.dataset.reader import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_json
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
    files = dict(_files(dataset))
    stamp = dataset.path.parent / f".{dataset.path.name}.checked"
    expected = _stamp(dataset, files).encode()
    with suppress(OSError):
        if expected and stamp.read_bytes() == expected:
            return False
    found: list[str] = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1, "check") as pool:  # hashing releases the GIL
        problems = pool.map(lambda item: content_problem(dataset.path, *item), files.items())
        for done, problem in enumerate(problems, start=1):
            found += [problem] if problem else []
            on_progress(done, len(files))
    if found:
        more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        raise DatasetError(
            f"{dataset.path}: expected the files of its manifest, found that {'; '.join(found[:_SHOWN])}{more}; "
            "run `spinmeround dataset verify --repair`"
        )
    with suppress(OSError):  # a folder that cannot be written to is checked each time
        write_atomic(stamp, expected)
    return True


def _files(dataset: HeadDataset) -> Iterator[tuple[str, FileRecord]]:
    """All files of a dataset, by name, with their records."""
    yield from read_manifest(dataset.path).files.items()
    if dataset.has_latents:
        for name, record in read_manifest(dataset.path / LATENTS).files.items():
            yield f"{LATENTS}/{name}", record


def _stamp(dataset: HeadDataset, files: Mapping[str, FileRecord]) -> str:
    """What changes with the digests and with the size or time of a file; empty if a file is missing."""
    latents = dataset.latents_digest if dataset.has_latents else ""
    try:
        states = [(name, (found := os.lstat(dataset.path / name)).st_size, found.st_mtime_ns) for name in files]
    except OSError:
        return ""
    return sha256_json([dataset.digest, latents, states])
