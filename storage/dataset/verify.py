"""Verifies a dataset: every byte against the manifest, then the arrays against the schema and each other.

All problems are collected, each with its head, array and file, so that they can be repaired one by one. Heads are
checked in parallel, by one thread per core: hashing and decoding release the GIL.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinmeround.storage.dataset.checks import CHECKS, Check
from spinmeround.storage.dataset.identity import digest_problems
from spinmeround.storage.dataset.publish import (
    LATENTS,
    MANIFEST,
    DatasetManifest,
    digest_of,
    latents_digest,
    read_manifest,
)
from spinmeround.storage.dataset.reader import HeadDataset
from spinmeround.storage.dataset.schema import ARRAYS, LATENT_ARRAYS, ROWS_PER_CHUNK, ArraySpec
from spinmeround.storage.dataset.split import SPLITS
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.manifests import FileRecord, checksums_of, content_problem, extra_files


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem, described by `what`. `head` and `array` are empty if it concerns the entire dataset.

    `file` is the damaged, missing or extra file below the dataset, empty if the problem is not a file.
    """

    head: str
    array: str
    what: str
    file: str = ""

    def __str__(self) -> str:
        place = " ".join(part for part in (f"head {self.head}" if self.head else "", self.array) if part)
        return f"{place}: {self.what}" if place else self.what


def verify(
    path: Path,
    *,
    digest: str = "",
    published: Mapping[str, str] | None = None,
    threads: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Problem]:
    """All problems of the dataset at `path`; an empty list means that it is complete and consistent.

    Reads every byte. Checks the SHA-256 of each file and the digest, that no file is missing or extra, the metadata
    against the schema, and the arrays as in `storage.dataset.checks`. The digest is compared with the folder's name,
    `versions.json`, `digest` and `published` (see `storage.dataset.identity`). `threads` 0 is one per core;
    `on_progress` gets (heads done, heads).
    """
    try:
        dataset = HeadDataset.open(path, checked=False)
    except DatasetError as error:
        return [Problem(head="", array="", what=str(error)), *_broken_metadata(Path(path))]
    groups = [_Group(dataset, "", ARRAYS)]
    if dataset.has_latents:
        groups.append(_Group(dataset, LATENTS, LATENT_ARRAYS))
    problems = [problem for group in groups for problem in group.shared_problems()]
    if groups[0].manifest is not None:
        stated = digest_problems(Path(path), groups[0].manifest.digest, len(dataset), digest, published or {})
        problems += [Problem(head="", array="", what=what, file=MANIFEST) for what in stated]
    damaged = {problem.array for problem in problems}
    with ThreadPoolExecutor(threads or os.cpu_count() or 1, "verify") as pool:
        heads = pool.map(lambda subject: list(_head_problems(dataset, groups, subject, damaged)), range(len(dataset)))
        for done, found in enumerate(heads, start=1):
            problems += found
            on_progress(done, len(dataset))
    return sorted(problems, key=lambda problem: (problem.head, problem.array))


def info(path: Path) -> dict[str, Any]:
    """A summary of a dataset: digest, counts, bytes by array, splits, latents, attributes."""
    dataset = HeadDataset.open(path)
    sizes: dict[str, int] = defaultdict(int)
    for name, record in read_manifest(dataset.path).files.items():
        sizes[name.split("/")[0] if "/" in name else "metadata"] += record.size
    return {
        "path": str(dataset.path),
        "digest": dataset.digest,
        "schema_version": dataset.attributes["schema_version"],
        "heads": len(dataset),
        "views": dataset.views,
        "resolution": [dataset.sizes["height"], dataset.sizes["width"]],
        "splits": {name: len(dataset.split(name)) for name in SPLITS},
        "bytes": dict(sorted(sizes.items())),
        "latents": dataset.latents_attributes() if dataset.has_latents else None,
        "attributes": {name: value for name, value in dataset.attributes.items() if name != "ids"},
    }


def _broken_metadata(path: Path) -> Iterator[Problem]:
    """The files that differ from the manifest, for a dataset that cannot be opened."""
    try:
        files = read_manifest(path).files
    except DatasetError as error:
        yield Problem(head="", array="", what=str(error), file=MANIFEST)
        return
    for name, record in files.items():
        if what := content_problem(path, name, record):
            yield Problem(head="", array=name.split("/")[0] if "/" in name else "", what=what, file=name)


class _Group:
    """Checks the files of a group, the dataset's or its latents', against their manifest."""

    def __init__(self, dataset: HeadDataset, prefix: str, specs: Mapping[str, ArraySpec]) -> None:
        self.dataset = dataset
        self.prefix = f"{prefix}/" if prefix else ""
        self.folder = dataset.path / prefix
        self.specs = specs
        self.manifest: DatasetManifest | None = None
        self.places: dict[str, dict[str, str]] = {}
        self.own = {array: spec for array, spec in specs.items() if spec.linked}

    def shared_problems(self) -> Iterator[Problem]:
        """All problems except those of files that belong to one head."""
        try:
            self.manifest = read_manifest(self.folder)
            latents = self.dataset.latents_attributes() if self.prefix else None
        except ValueError as error:
            yield Problem(head="", array="", what=str(error), file=f"{self.prefix}{MANIFEST}")
            return
        self.places = dict(self._places())
        files = self.manifest.files
        one_head = {
            f"{array}/{spec.file(subject)}" for array, spec in self.own.items() for subject in range(len(self.dataset))
        }
        for name in [name for name in files if name not in one_head]:
            yield from self._file_problem(name, files[name])
        for name in sorted(self.places.keys() - files.keys()):
            yield self._problem(name, f"{name} is not in {MANIFEST}")
        yield from self._extra_files()
        digest = digest_of(files) if latents is None else latents_digest(latents, checksums_of(files))
        if digest != self.manifest.digest:
            what = f"{self.folder.name}: expected the digest {digest}, found {self.manifest.digest} in {MANIFEST}"
            yield Problem(head="", array="", what=what, file=f"{self.prefix}{MANIFEST}")

    def head_problems(self, subject: int) -> Iterator[Problem]:
        """Problems of one head's own files."""
        if self.manifest is None:
            return
        for array, spec in self.own.items():
            name = f"{array}/{spec.file(subject)}"
            if record := self.manifest.files.get(name):
                yield from self._file_problem(name, record)

    def _file_problem(self, name: str, record: FileRecord) -> Iterator[Problem]:
        if what := content_problem(self.folder, name, record):
            yield self._problem(name, what)

    def _problem(self, name: str, what: str) -> Problem:
        place = self.places.get(name, {"head": "", "array": ""})
        return Problem(**place, what=what, file=f"{self.prefix}{name}")

    def _extra_files(self) -> Iterator[Problem]:
        """Files, links and devices that the manifest does not list; those of the latents belong to their own group."""
        assert self.manifest is not None
        others = () if self.prefix else (f"{LATENTS}/",)
        try:
            for name in extra_files(self.folder, self.manifest.files, without=(MANIFEST,)):
                if not name.startswith(others):
                    what = f"{self.folder.name}: {name} is not in {MANIFEST}"
                    yield Problem(head="", array="", what=what, file=f"{self.prefix}{name}")
        except ValueError as error:
            yield Problem(head="", array="", what=f"{self.folder.name}: {error}")

    def _places(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Every file of the group by name, with the head and the array that it belongs to."""
        ids = self.dataset.ids
        for name, spec in self.specs.items():
            array = self.prefix + name
            yield f"{name}/zarr.json", {"head": "", "array": array}
            if spec.axes[0][0] != "subject":
                yield f"{name}/{spec.file(0)}", {"head": "", "array": array}
                continue
            step = 1 if spec.linked else ROWS_PER_CHUNK
            for start in range(0, len(ids), step):
                held = ids[start : start + step]
                head = held[0] if len(held) == 1 else f"{held[0]} to {held[-1]}"
                yield f"{name}/{spec.file(start // step)}", {"head": head, "array": array}


def _head_problems(dataset: HeadDataset, groups: list[_Group], subject: int, damaged: set[str]) -> Iterator[Problem]:
    """Problems of one head's files, then of the arrays in intact files."""
    files = [problem for group in groups for problem in group.head_problems(subject)]
    yield from files
    broken = damaged | {problem.array for problem in files}
    for arrays, check in CHECKS:
        if not broken & set(arrays):
            yield from _findings(dataset, subject, arrays, check)


def _findings(dataset: HeadDataset, subject: int, arrays: tuple[str, ...], check: Check) -> Iterator[Problem]:
    head = dataset.ids[subject]
    try:
        for name, what in check(dataset, subject):
            yield Problem(head=head, array=name, what=what)
    except DatasetError as error:
        yield Problem(head=head, array=_unreadable(dataset, subject, arrays), what=str(error))


def _unreadable(dataset: HeadDataset, subject: int, arrays: tuple[str, ...]) -> str:
    """The first of these arrays that cannot be read although its files match the manifest."""
    for name in arrays:
        try:
            if ARRAYS[name].linked:
                dataset.read_views(subject, range(dataset.views), [name])
            elif ARRAYS[name].layout == "rows":
                dataset.row(name, subject)
        except DatasetError:
            return name
    return arrays[-1]
