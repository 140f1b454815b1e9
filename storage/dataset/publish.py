"""Freezing a version: the heads' own files, linked into one Zarr group, with a manifest and a digest.

Publishing copies no pixel (hard links; copies where the file system has none) and writes the small arrays
anew, a block of subjects at a time. Heads are ordered by id. The digest is SHA-256 over the sorted list of
(file name, SHA-256) of every file but the manifest and the latents, so it depends on what is in the
dataset, not on when, where or in which order it was built. A dataset appears whole, by a rename; one that
is there already is never overwritten.
"""

import errno
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from spinmeround.storage.dataset.head_group import HeadEntry
from spinmeround.storage.dataset.joined_group import build_group
from spinmeround.storage.dataset.schema import ARRAYS, LATENT_ARRAYS, SCHEMA_VERSION, read_metadata
from spinmeround.storage.dataset.split import SplitFractions
from spinmeround.storage.errors import DatasetError, NewerDataset, environment_errors
from spinmeround.storage.files import flush_tree, owned_folder, rename_folder, sweep_owned_folders, write_atomic
from spinmeround.storage.hashing import canonical_json, sha256_json, sha256_listing
from spinmeround.storage.manifests import FileRecord, RelativeName, Sha256, record_file, size_problem, stated_version
from spinmeround.storage.records import FrozenModel

MANIFEST = "manifest.json"
LATENTS = "latents"
_TEMP = ".tmp"
_OWN_ATTRIBUTES = ("schema", "schema_version", "ids")


class DatasetManifest(FrozenModel):
    """Every file of a frozen group but this one (and, for the dataset, but the latents), and the digest of all."""

    schema_version: Literal[1] = 1
    digest: Sha256
    files: dict[RelativeName, FileRecord]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Where a frozen dataset lies, and its digest."""

    path: Path
    digest: str


def assemble(target: Path, heads: Sequence[HeadEntry], attributes: Mapping[str, Any]) -> DatasetInfo:
    """Freeze the heads into a dataset at `target`; the same dataset already there is reused.

    `attributes` (JSON values) become the group's: generator, weights, parameters, view grid, counts, licences.
    `attributes["split"]` holds the `SplitFractions`. Nothing in them may depend on time, place or order.
    Raises DatasetError where `target` holds anything else, or where a head does not fit.
    """
    with _built(target.parent, heads, attributes) as (folder, digest):
        _settle(folder, target, digest)
    return DatasetInfo(path=target, digest=digest)


def publish(folder: Path, heads: Sequence[HeadEntry], attributes: Mapping[str, Any]) -> DatasetInfo:
    """Like `assemble`, as `<folder>/<first 12 digits of the digest>.zarr`."""
    with _built(folder, heads, attributes) as (built, digest):
        target = folder / f"{digest[:12]}.zarr"
        _settle(built, target, digest, ours=True)
    return DatasetInfo(path=target, digest=digest)


def add_latents(
    dataset: Path, heads: Sequence[HeadEntry], autoencoder: str, attributes: Mapping[str, Any] | None = None
) -> str:
    """Put the latents of all heads (groups of `write_latents`) into a dataset; returns their own digest.

    `autoencoder` is the fingerprint of the network that made them, `attributes` what else should be known of
    it. The dataset's digest stays. Latents of another autoencoder are replaced. Raises DatasetError where the
    heads are not just those of the dataset.
    """
    ids = list((read_metadata(dataset).get("attributes") or {}).get("ids", []))
    by_id = {head.id: head for head in heads}
    if set(ids) != set(by_id) or len(by_id) != len(heads):
        wrong = sorted(set(ids) ^ set(by_id))[:3]
        raise DatasetError(
            f"{dataset}: expected latents of just its {len(ids)} heads, got {len(heads)}; look at {wrong}"
        )
    named = _plain({**(attributes or {}), "schema_version": SCHEMA_VERSION, "autoencoder": autoencoder})
    with environment_errors(dataset), _workshop(dataset.parent, LATENTS) as folder:
        files = build_group(folder / "new", LATENT_ARRAYS, [by_id[id] for id in ids], named)
        digest = latents_digest(named, files)
        group = read_metadata(folder / "new") | {"attributes": {**named, "digest": digest}}
        write_atomic(folder / "new" / "zarr.json", json.dumps(group, indent=2).encode())
        _write_manifest(folder / "new", digest, {**files, "zarr.json": record_file(folder / "new" / "zarr.json")})
        flush_tree(folder)
        if (dataset / LATENTS).exists():
            (dataset / LATENTS).rename(folder / "old")
        rename_folder(folder / "new", dataset / LATENTS)
    return digest


def standing_latents(dataset: Path, autoencoder: str) -> str | None:
    """Digest of a dataset's latents, where they are this autoencoder's and every file is there in its size."""
    folder = dataset / LATENTS
    try:
        attributes = read_metadata(folder).get("attributes") or {}
        digest = str(attributes["digest"])
    except (DatasetError, KeyError):
        return None
    return digest if attributes.get("autoencoder") == autoencoder and is_standing(folder, digest) else None


def latents_digest(attributes: Mapping[str, Any], files: Mapping[str, FileRecord]) -> str:
    """The digest of latents: of their attributes (but the digest itself) and of all files but `zarr.json`."""
    listing = {name: record.sha256 for name, record in files.items() if name != "zarr.json"}
    return sha256_json([{name: value for name, value in attributes.items() if name != "digest"}, listing])


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of a frozen group. Raises DatasetError where it is missing, broken, unsafe or too new."""
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_bytes(), path)
    except OSError as error:
        raise DatasetError(f"{path}: expected the manifest of a dataset, found {_one_line(error)}") from error


def parse_manifest(data: bytes, path: Path | str) -> DatasetManifest:
    """A manifest from its bytes. Raises DatasetError that names the path where it is broken, unsafe or too new."""
    if (version := stated_version(data)) > SCHEMA_VERSION:
        raise NewerDataset(
            f"{path}: schema version {version}, this software reads up to {SCHEMA_VERSION}; use a newer version"
        )
    try:
        return DatasetManifest.model_validate_json(data)
    except ValidationError as error:
        raise DatasetError(f"{path}: expected the manifest of a dataset, found {_one_line(error)}") from error


def is_standing(folder: Path, digest: str) -> bool:
    """Whether `folder` holds the dataset of this digest, every file in its size; no byte of them is read."""
    try:
        manifest = read_manifest(folder)
    except DatasetError:
        return False
    problems = (size_problem(folder, name, record) for name, record in manifest.files.items())
    return manifest.digest == digest and not any(problems)


def digest_of(files: Mapping[str, FileRecord]) -> str:
    """The digest of a dataset with these files."""
    return sha256_listing({name: record.sha256 for name, record in files.items()})


@contextmanager
def _built(parent: Path, heads: Sequence[HeadEntry], attributes: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """A finished group in a temp folder of `parent`, and its digest."""
    ordered = sorted(heads, key=lambda head: head.id)
    ids = [head.id for head in ordered]
    if not ids or len(set(ids)) != len(ids):
        raise DatasetError(f"dataset: expected at least one head, each once, got {len(ids)} with {len(set(ids))} ids")
    named = _attributes(ids, attributes)
    with environment_errors(parent), _workshop(parent, "dataset") as folder:
        files = build_group(folder / "new", ARRAYS, ordered, named)
        digest = digest_of(files)
        _write_manifest(folder / "new", digest, files)
        flush_tree(folder)
        yield folder / "new", digest


@contextmanager
def _workshop(parent: Path, label: str) -> Iterator[Path]:
    """A temp folder on the same file system; what killed runs left beside it is removed first."""
    sweep_owned_folders(parent / _TEMP)
    with owned_folder(parent / _TEMP, label) as folder:
        yield folder


def _attributes(ids: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    if clash := sorted(set(attributes) & set(_OWN_ATTRIBUTES)):
        raise DatasetError(f"attributes: {clash} are written by the dataset itself; leave them out")
    try:
        split = SplitFractions.model_validate(attributes.get("split", {}))
    except ValidationError as error:
        raise DatasetError(f"attributes: split: {_one_line(error)}") from error
    own = {"schema": "spinmeround-heads", "schema_version": SCHEMA_VERSION, "ids": list(ids)}
    return _plain({**attributes, **own, "split": split.model_dump()})


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same JSON with sorted keys, so that the order in which a caller built it leaves no trace."""
    return dict(json.loads(canonical_json(dict(value))))


def _write_manifest(folder: Path, digest: str, files: Mapping[str, FileRecord]) -> None:
    manifest = DatasetManifest(digest=digest, files=dict(sorted(files.items())))
    write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())


def _settle(built: Path, target: Path, digest: str, *, ours: bool = False) -> None:
    """Give a finished dataset its name, unless it is there already. A damaged copy of it is moved aside.

    `ours` says that the name belongs to this digest, so that a folder without a readable manifest is a damaged copy.
    """
    if target.is_symlink() or target.is_file():
        raise DatasetError(f"{target}: expected a free name for a dataset, found a file or link; choose another")
    if target.is_dir() and any(target.iterdir()):
        if is_standing(target, digest):
            return
        if (there := _stated_digest(target, ours=ours)) not in (None, digest):
            raise DatasetError(
                f"{target} holds another dataset (digest {str(there)[:12]}, not {digest[:12]}), and a published "
                "version is never overwritten; choose another target"
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
