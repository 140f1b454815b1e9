"""The versions of a dataset in one folder, numbered in order of publication.

Datasets are named by their digests. `versions.json`, next to them, records their order, times and parents. It is
replaced atomically and not part of any digest: without it, only the order is lost.
"""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from spinmeround.storage.dataset.manifest import read_manifest
from spinmeround.storage.dataset.schema import SCHEMA_VERSION
from spinmeround.storage.errors import DatasetError, environment_errors, validation_message
from spinmeround.storage.files import flocked, write_atomic
from spinmeround.storage.manifests import Sha256, stated_version
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed

INDEX = "versions.json"
_LARGEST_INDEX = 16 * 1024 * 1024


class Version(FrozenModel):
    """One published dataset: its number, its digest, that of the one before it, and that of its latents, if any."""

    number: int = Field(ge=1)
    digest: Sha256
    created: datetime
    heads: int = Field(ge=1)
    parent: Sha256 | None = None
    latents: Sha256 | None = None

    @property
    def folder(self) -> str:
        return f"{self.digest[:12]}.zarr"


class _Index(FrozenModel):
    schema_version: Literal[1] = 1
    versions: tuple[Version, ...] = ()


def list_versions(folder: Path) -> tuple[Version, ...]:
    """All versions published into a folder, oldest first; some may have been deleted since.

    Raises DatasetError if the index is broken, no regular file or of a newer schema.
    """
    path = folder / INDEX
    if not os.path.lexists(path):
        return ()
    if path.is_symlink() or not path.is_file():
        raise DatasetError(
            f"{path}: expected the index of versions, found a link, a folder or a special file; remove it to start a "
            "new one"
        )
    if path.stat().st_size > _LARGEST_INDEX:
        raise DatasetError(f"{path}: expected at most {_LARGEST_INDEX} bytes, found {path.stat().st_size}")
    data = path.read_bytes()
    if (newest := stated_version(data)) > SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: schema version {newest}, this software reads up to {SCHEMA_VERSION}; use a newer version"
        )
    try:
        found = _Index.model_validate(unsealed(data)).versions
    except ValueError as error:
        raise DatasetError(
            f"{path}: expected the index of versions, found {validation_message(error)}; remove it to start a new one"
        ) from error
    parents = [None, *(version.digest for version in found)]
    if [(each.number, each.parent) for each in found] != list(zip(range(1, len(found) + 1), parents, strict=False)):
        raise DatasetError(
            f"{path}: expected versions numbered from 1, each after the one before; remove it to start a new one"
        )
    return found


def record_version(folder: Path, digest: str, heads: int) -> Version:
    """Add a dataset in the folder to its index; a known digest keeps its number."""
    if (version := _known(folder, digest)) is not None:
        return version
    with environment_errors(folder), flocked(folder / f".{INDEX}.lock"):
        if (version := _known(folder, digest)) is not None:
            return version
        known = list_versions(folder)
        version = Version(
            number=len(known) + 1,
            digest=digest,
            created=datetime.now(UTC).replace(microsecond=0),
            heads=heads,
            parent=known[-1].digest if known else None,
        )
        _write(folder, (*known, version))
    return version


def record_latents(folder: Path, digest: str, latents: str) -> None:
    """State the digest of the latents of a dataset in the folder; one that the index does not know is left alone."""
    if stated_latents(folder, digest) == latents or _known(folder, digest) is None:
        return
    with environment_errors(folder), flocked(folder / f".{INDEX}.lock"):
        known = list_versions(folder)
        _write(
            folder, [each.model_copy(update={"latents": latents} if each.digest == digest else {}) for each in known]
        )


def stated_latents(folder: Path, digest: str) -> str | None:
    """The digest of a dataset's latents that the folder's index states, if it does."""
    version = _known(folder, digest)
    return version.latents if version else None


def _write(folder: Path, versions: Sequence[Version]) -> None:
    data = sealed_json(_Index(versions=tuple(versions)))
    if len(data) > _LARGEST_INDEX:
        raise DatasetError(f"{folder / INDEX}: expected at most {_LARGEST_INDEX} bytes; publish into a new folder")
    write_atomic(folder / INDEX, data)


def _known(folder: Path, digest: str) -> Version | None:
    return next((version for version in list_versions(folder) if version.digest == digest), None)


def find_version(folder: Path, name: str) -> Path:
    """Path of the dataset named `v2`, or by the first digits of its digest. Raises DatasetError unless one matches."""
    known = list_versions(folder)
    digests = [version.digest for version in known if name == f"v{version.number}"]
    if not digests and re.fullmatch(r"[0-9a-f]{4,64}", name):
        digests = [version.digest for version in known if version.digest.startswith(name)]
    if len(digests) != 1:
        have = ", ".join(f"v{version.number} ({version.digest[:12]})" for version in known) or "none"
        raise DatasetError(f"version {name!r}: expected one of the versions in {folder}: {have}")
    path = folder / f"{digests[0][:12]}.zarr"
    if read_manifest(path).digest != digests[0]:
        raise DatasetError(f"{path}: expected the digest {digests[0]}, found {read_manifest(path).digest}")
    return path
