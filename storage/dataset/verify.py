"""Verifies a dataset: every byte against the manifest, then the arrays against the schema and each other.

All problems are collected, each with its head, array and file, so that they can be repaired one by one. Heads are
checked in parallel, by one thread per core: hashing and decoding release the GIL.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinmeround.storage.dataset.checks import CHECKS, Check
from spinmeround.storage.dataset.identity import digest_problems, latents_problem
from spinmeround.storage.dataset.manifest import (
    MANIFEST,
    DatasetManifest,
    Records,
    head_blocks,
    open_manifest,
    part_of,
    read_manifest,
)
from spinmeround.storage.dataset.publish import LATENTS
from spinmeround.storage.dataset.reader import HeadDataset
from spinmeround.storage.dataset.schema import ARRAYS, LATENT_ARRAYS, ROWS_PER_CHUNK, ArraySpec, shared_files
from spinmeround.storage.dataset.split import SPLITS
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.manifests import FileRecord, content_problem, each_file, is_litter


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
    `versions.json`, `digest` and `published`, each on its own (see `storage.dataset.identity`). `threads` 0 is one per
    core; `on_progress` gets (heads done, heads).
    """
    try:
        dataset = HeadDataset.open(path, checked=False)
    except DatasetError as error:
        return [Problem(head="", array="", what=str(error)), *_broken_metadata(Path(path))]
    groups = [_Group(dataset, "", ARRAYS)]
    if dataset.has_latents or _holds_files(dataset.path / LATENTS):
        groups.append(_Group(dataset, LATENTS, LATENT_ARRAYS))
    problems = [problem for group in groups for problem in group.shared_problems()]
    problems += _stated_latents_problems(dataset, groups)
    if groups[0].manifest is not None:
        stated = digest_problems(Path(path), groups[0].manifest.digest, len(dataset), digest, published or {})
        problems += [Problem(head="", array="", what=what, file=MANIFEST) for what in stated]
    damaged = {problem.array for problem in problems}
    with ThreadPoolExecutor(threads or os.cpu_count() or 1, "verify") as pool:
        for subjects in head_blocks(len(dataset)):  # one part of the listing at a time is held
            problems += [problem for group in groups for problem in group.listing_problems(subjects[0])]
            heads = pool.map(lambda subject: list(_head_problems(dataset, groups, subject, damaged)), subjects)
            for subject, found in zip(subjects, heads, strict=True):
                problems += found
                on_progress(subject + 1, len(dataset))
    return sorted(problems, key=lambda problem: (problem.head, problem.array))


def info(path: Path) -> dict[str, Any]:
    """A summary of a dataset: digest, counts, bytes by array, splits, latents, attributes."""
    dataset = HeadDataset.open(path)
    sizes: dict[str, int] = defaultdict(int)
    manifest = read_manifest(dataset.path)
    for records in (manifest.parts, *manifest.blocks()):
        for name, record in records.items():
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


def _stated_latents_problems(dataset: HeadDataset, groups: "Sequence[_Group]") -> Iterator[Problem]:
    """Whether the latents are those that versions.json states, if there is a folder of them."""
    stating, *with_latents = (group.manifest for group in groups)
    if stating is None or None in with_latents or not (dataset.path / LATENTS).is_dir():
        return  # the manifests have problems of their own
    digest = next((each.digest for each in with_latents if each), None)
    if what := latents_problem(dataset.path, stating.digest, digest):
        yield Problem(head="", array=LATENTS, what=what, file=f"{LATENTS}/{MANIFEST}")


def _holds_files(folder: Path) -> bool:
    """Whether a folder of latents has content: without a manifest it is damaged, not absent."""
    return folder.is_dir() and any(not is_litter(name) for name in os.listdir(folder))


def _broken_metadata(path: Path) -> Iterator[Problem]:
    """The files that differ from the manifest, for a dataset that cannot be opened."""
    try:
        for records in read_manifest(path).blocks():
            for name, record in records.items():
                if what := content_problem(path, name, record):
                    yield Problem(head="", array=name.split("/")[0] if "/" in name else "", what=what, file=name)
    except DatasetError as error:
        yield Problem(head="", array="", what=str(error), file=MANIFEST)


class _Group:
    """Checks the files of a group, the dataset's ("") or its latents', against their manifest."""

    def __init__(self, dataset: HeadDataset, name: str, specs: Mapping[str, ArraySpec]) -> None:
        self.dataset, self.name, self.specs = dataset, name, specs
        self.prefix = f"{name}/" if name else ""
        self.folder = dataset.path / name
        self.manifest: DatasetManifest | None = None
        self.own = {array: spec for array, spec in specs.items() if spec.linked}
        self._separator = dataset.group.separator
        self._records: Records | None = None

    def shared_problems(self) -> Iterator[Problem]:
        """All problems except those of files that belong to one head."""
        try:
            group = self.dataset.group_of(self.name)
            manifest = open_manifest(self.dataset.files, self.name)
            manifest.check_parts(len(self.dataset))
            shared = manifest.shared()
        except ValueError as error:
            yield self._problem(MANIFEST, str(error))
            return
        self.manifest, self._separator = manifest, group.separator
        expected = list(shared_files(self.specs, group.sizes, group.separator))
        for name in [*expected, *(shared.keys() - set(expected))]:
            if self._subject(name) is None:
                yield from self._file_problem(name, shared.get(name))
        yield from self._extra_files(shared)
        digest = manifest.digest_of_listed(group.attributes if self.name else None)
        if digest != manifest.digest:
            yield self._problem(
                MANIFEST, f"{self.folder.name}: expected the digest {digest}, found {manifest.digest} in {MANIFEST}"
            )

    def listing_problems(self, start: int) -> Iterator[Problem]:
        """Problems of the part of the listing that begins with the head `start`; its records are then used."""
        self._records = None
        if self.manifest is None:
            return
        try:
            self._records = self.manifest.heads(start)
        except DatasetError as error:
            yield self._problem(MANIFEST, str(error))
            return
        for name in self._records if self.manifest.parts else ():
            subject = self._subject(name)
            if subject is None or part_of(subject) != part_of(start):
                yield self._problem(MANIFEST, f"{part_of(start)}: expected files of its heads, found {name}")

    def head_problems(self, subject: int) -> Iterator[Problem]:
        """Problems of one head's own files."""
        if self._records is None:
            return
        for array, spec in self.own.items():
            name = f"{array}/{spec.file(subject, self._separator)}"
            yield from self._file_problem(name, self._records.get(name))

    def _file_problem(self, name: str, record: FileRecord | None) -> Iterator[Problem]:
        what = content_problem(self.folder, name, record) if record else f"{name} is not in {MANIFEST}"
        if what:
            yield self._problem(name, what)

    def _problem(self, name: str, what: str) -> Problem:
        head, array = self._place(name)
        return Problem(head=head, array=array, what=what, file=f"{self.prefix}{name}")

    def _extra_files(self, shared: Records) -> Iterator[Problem]:
        """Files, links and devices that the manifest does not list; those of the latents belong to their own group."""
        assert self.manifest is not None
        known = {MANIFEST, *self.manifest.parts, *shared}
        others = () if self.prefix else (f"{LATENTS}/",)
        try:
            extra = (name for name in each_file(self.folder) if name not in known and self._subject(name) is None)
            for name in sorted(name for name in extra if not name.startswith(others)):
                yield self._problem(name, f"{self.folder.name}: {name} is not in {MANIFEST}")
        except ValueError as error:
            yield Problem(head="", array="", what=f"{self.folder.name}: {error}")

    def _subject(self, name: str) -> int | None:
        """The head whose own file this is."""
        array, _, file = name.partition("/")
        index = self.own[array].index(file, self._separator) if array in self.own else None
        return None if index is None or index >= len(self.dataset) else index

    def _place(self, name: str) -> tuple[str, str]:
        """The head and the array that a file belongs to; empty if there is none."""
        array, _, file = name.partition("/")
        spec = self.specs.get(array)
        if spec is None or file == "zarr.json":
            return "", self.prefix + array if spec else ""
        index, step = spec.index(file, self._separator), 1 if spec.linked else ROWS_PER_CHUNK
        if index is None:
            return "", ""
        held = self.dataset.ids[index * step : (index + 1) * step] if spec.axes[0][0] == "subject" else ()
        head = held[0] if len(held) == 1 else f"{held[0]} to {held[-1]}" if held else ""
        return head, self.prefix + array


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
