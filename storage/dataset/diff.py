"""Differences between two datasets: heads, arrays of heads, attributes. Images are compared by their checksums."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.dataset.manifest import open_manifest
from spinmeround.storage.dataset.reader import HeadDataset
from spinmeround.storage.dataset.schema import ARRAYS

_OWN = ("ids", "schema", "schema_version")


@dataclass(frozen=True, kw_only=True)
class DatasetDiff:
    """Changes from one dataset to another. `changed` lists arrays by head, `shared` the arrays of no single head.

    `attributes` maps a dotted name to (before, after), None for an absent value.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]
    shared: tuple[str, ...]
    attributes: Mapping[str, tuple[Any, Any]]

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.changed or self.shared or self.attributes)


def diff_datasets(before: Path, after: Path) -> DatasetDiff:
    """The changes from `before` to `after`. Raises DatasetError if one of them cannot be read."""
    old, new = HeadDataset.open(before), HeadDataset.open(after)
    both = sorted(set(old.ids) & set(new.ids))
    old_subject, new_subject = _subjects(old), _subjects(new)
    fits = [name for name in ARRAYS if _shape(old, name) == _shape(new, name)]
    other = tuple(name for name in ARRAYS if name not in fits)
    old_sum, new_sum = _checksums(old), _checksums(new)
    changed: dict[str, tuple[str, ...]] = {}
    for id in both:
        one, two = old_subject[id], new_subject[id]
        names = [name for name in fits if ARRAYS[name].axes[0][0] == "subject"]
        found = [
            name
            for name in names
            if (
                old_sum(name, one) != new_sum(name, two)
                if ARRAYS[name].linked
                else not np.array_equal(old.row(name, one), new.row(name, two))
            )
        ]
        if found:
            changed[id] = tuple(found)
    return DatasetDiff(
        added=tuple(sorted(set(new.ids) - set(old.ids))),
        removed=tuple(sorted(set(old.ids) - set(new.ids))),
        changed=changed,
        shared=(*other, *(name for name in fits if _single_file_differs(name, old_sum, new_sum))),
        attributes=_attribute_changes(old.attributes, new.attributes),
    )


def _subjects(dataset: HeadDataset) -> dict[str, int]:
    return {id: subject for subject, id in enumerate(dataset.ids)}


def _shape(dataset: HeadDataset, name: str) -> tuple[int, ...]:
    """Shape of the part of an array that belongs to one head."""
    spec = ARRAYS[name]
    shape = spec.shape(dataset.sizes)
    return shape[1:] if spec.axes[0][0] == "subject" else shape


Checksum = Callable[[str, int | None], str | None]
"""SHA-256 of the file of an array that belongs to a head or, for None, of its only file; None if it is not listed."""


def _checksums(dataset: HeadDataset) -> Checksum:
    manifest = open_manifest(dataset.files)

    def of(name: str, subject: int | None) -> str | None:
        file = ARRAYS[name].file(subject or 0, dataset.group.separator)
        record = manifest.record(f"{name}/{file}", subject)
        return record.sha256 if record else None

    return of


def _single_file_differs(name: str, old: Checksum, new: Checksum) -> bool:
    return ARRAYS[name].layout == "whole" and old(name, None) != new(name, None)


def _attribute_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    one, two = (dict(_flat(attributes)) for attributes in (old, new))
    names = [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]
    return {name: (one.get(name), two.get(name)) for name in names}


def _flat(attributes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif prefix or name not in _OWN:
            yield f"{prefix}{name}", value
