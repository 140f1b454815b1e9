"""Freezing a version: the files of the heads, linked into one Zarr group, with a manifest and a digest.

Publishing copies no pixels (hard links; copies if the file system has none) and writes the small arrays again, a
block of subjects at a time. Heads are ordered by id. The digest covers every file except the latents, so it depends on
the content of the dataset and not on when, where or in which order it was built. A dataset appears complete, by a
rename, and is never overwritten.
"""

import errno
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spinmeround.storage.dataset.head_group import HeadEntry
from spinmeround.storage.dataset.joined_group import HeadSource, build_group
from spinmeround.storage.dataset.manifest import read_manifest
from spinmeround.storage.dataset.schema import ARRAYS, LATENT_ARRAYS, SCHEMA_VERSION, read_metadata
from spinmeround.storage.dataset.split import SplitFractions
from spinmeround.storage.errors import DatasetError, NewerDataset, environment_errors, validation_message
from spinmeround.storage.files import flush_tree, owned_folder, rename_folder, sweep_owned_folders
from spinmeround.storage.hashing import canonical_json
from spinmeround.storage.manifests import size_problem

LATENTS = "latents"
_TEMP = ".tmp"
_OWN_ATTRIBUTES = ("schema", "schema_version", "ids")


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Path and digest of a frozen dataset."""

    path: Path
    digest: str


def assemble(target: Path, heads: Sequence[HeadSource], attributes: Mapping[str, Any]) -> DatasetInfo:
    """Freeze the heads into a dataset at `target`; reuses the same dataset if it already exists.

    `attributes` (JSON values) become the group's: generator, weights, parameters, view grid, counts, licences.
    `attributes["split"]` holds the `SplitFractions`. They must not depend on time, place or order.
    Raises DatasetError if `target` holds anything else, or if a head is incompatible with the first.
    """
    with _built(target.parent, heads, attributes) as (folder, digest):
        _settle(folder, target, digest)
    return DatasetInfo(path=target, digest=digest)


def publish(folder: Path, heads: Sequence[HeadSource], attributes: Mapping[str, Any]) -> DatasetInfo:
    """Like `assemble`, at `<folder>/<first 12 digits of the digest>.zarr`."""
    with _built(folder, heads, attributes) as (built, digest):
        target = folder / f"{digest[:12]}.zarr"
        _settle(built, target, digest, ours=True)
    return DatasetInfo(path=target, digest=digest)


def add_latents(
    dataset: Path, heads: Sequence[HeadEntry], autoencoder: str, attributes: Mapping[str, Any] | None = None
) -> str:
    """Put the latents of all heads (groups of `write_latents`) into a dataset; returns their own digest.

    `autoencoder` is the fingerprint of the network that made them, `attributes` are further facts about it. Replaces
    latents of another autoencoder. The dataset's digest does not change. Raises DatasetError if the heads are not
    exactly those of the dataset.
    """
    ids = list((read_metadata(dataset).get("attributes") or {}).get("ids", []))
    by_id = {head.id: head for head in heads}
    if set(ids) != set(by_id) or len(by_id) != len(heads):
        wrong = sorted(set(ids) ^ set(by_id))[:3]
        raise DatasetError(
            f"{dataset}: expected latents of exactly its {len(ids)} heads, got {len(heads)}; they differ in {wrong}"
        )
    named = _plain({**(attributes or {}), "schema_version": SCHEMA_VERSION, "autoencoder": autoencoder})
    with environment_errors(dataset), _temp_folder(dataset.parent, LATENTS) as folder:
        digest = build_group(folder / "new", LATENT_ARRAYS, [by_id[id] for id in ids], named)
        flush_tree(folder)
        if (dataset / LATENTS).exists():
            (dataset / LATENTS).rename(folder / "old")
        rename_folder(folder / "new", dataset / LATENTS)
    return digest


def latents_of(dataset: Path, autoencoder: str, attributes: Mapping[str, Any] | None = None) -> str | None:
    """Digest of a dataset's latents if they are of this autoencoder, with these attributes, and whole, else None."""
    folder = dataset / LATENTS
    try:
        found, digest = read_metadata(folder).get("attributes") or {}, read_manifest(folder).digest
    except DatasetError:
        return None
    expected = {**(attributes or {}), "autoencoder": autoencoder}
    same = all(found.get(name) == value for name, value in expected.items())
    return digest if same and is_intact(folder, digest) else None


def is_intact(folder: Path, digest: str) -> bool:
    """Whether `folder` holds the dataset of this digest with every file at its size. Reads manifest and listing."""
    try:
        manifest = read_manifest(folder)
        if manifest.digest != digest:
            return False
        files = (item for records in manifest.blocks() for item in records.items())
        return not any(size_problem(folder, name, record) for name, record in files)
    except DatasetError:
        return False


@contextmanager
def _built(parent: Path, heads: Sequence[HeadSource], attributes: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """A complete group in a temporary folder of `parent`, and its digest."""
    ordered = sorted(heads, key=lambda head: head.id)
    ids = [head.id for head in ordered]
    if not ids or len(set(ids)) != len(ids):
        raise DatasetError(f"dataset: expected at least one head, each once, got {len(set(ids))} ids of {len(ids)}")
    named = _attributes(ids, attributes)
    with environment_errors(parent), _temp_folder(parent, "dataset") as folder:
        digest = build_group(folder / "new", ARRAYS, ordered, named)
        flush_tree(folder)
        yield folder / "new", digest


@contextmanager
def _temp_folder(parent: Path, label: str) -> Iterator[Path]:
    """A temporary folder on the same file system; removes leftovers of killed runs first."""
    sweep_owned_folders(parent / _TEMP)
    with owned_folder(parent / _TEMP, label) as folder:
        yield folder


def _attributes(ids: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    if clash := sorted(set(attributes) & set(_OWN_ATTRIBUTES)):
        raise DatasetError(f"attributes: {clash} are reserved for the dataset; remove them")
    try:
        split = SplitFractions.model_validate(attributes.get("split", {}))
    except ValidationError as error:
        raise DatasetError(f"attributes: split: {validation_message(error)}") from error
    own = {"schema": "spinmeround-heads", "schema_version": SCHEMA_VERSION, "ids": list(ids)}
    return _plain({**attributes, **own, "split": split.model_dump()})


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same JSON with sorted keys, independent of the order in which the caller built it."""
    return dict(json.loads(canonical_json(dict(value))))


def _settle(built: Path, target: Path, digest: str, *, ours: bool = False) -> None:
    """Rename a complete dataset to `target`, unless it already exists there. A damaged copy of it is moved aside.

    With `ours` the name of `target` belongs to this digest, so a folder without a readable manifest is a damaged copy.
    """
    if target.is_symlink() or target.is_file():
        raise DatasetError(f"{target}: expected an unused path for a dataset, found a file or link; choose another")
    if target.is_dir() and any(target.iterdir()):
        if is_intact(target, digest):
            return
        if (there := _stated_digest(target, ours=ours)) not in (None, digest):
            raise DatasetError(
                f"{target} holds another dataset (digest {str(there)[:12]}, not {digest[:12]}), and published "
                "versions are never overwritten; choose another target"
            )
        rename_folder(target, target.parent / ".corrupt" / f"{target.name}-{secrets.token_hex(4)}")
    try:
        rename_folder(built, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or read_manifest(target).digest != digest:
            raise


def _stated_digest(target: Path, *, ours: bool) -> str | None:
    try:
        return read_manifest(target).digest
    except DatasetError as error:
        if ours and not isinstance(error, NewerDataset):
            return None
        raise
