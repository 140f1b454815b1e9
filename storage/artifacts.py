"""The artifact store: what each stage made for each head, addressed by what went into it.

    <root>/<stage>/<key[:2]>/<key>/   the payload's files and manifest.json
    <root>/tmp, locks, corrupt, failures

A payload is made in a temp folder, flushed, given its manifest last and renamed into place: an artifact is
whole or absent, whatever kills its maker. `open` notices a missing or truncated file, `verify` a changed
byte too; such a payload is moved to `corrupt/` and reported, and can then be made again. Failures of the
file system become `StorageUnavailable`.
"""

import errno
import json
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from storage.errors import CorruptArtifact, MissingArtifact, StorageUnavailable, StoreError, environment_errors
from storage.failures import Failure, FailureLog
from storage.files import flocked, flush_tree, make_folder, owned_folder, rename_folder, sweep_owned_folders
from storage.hashing import canonical_json, sha256_json
from storage.manifests import (
    FileRecord,
    RelativeName,
    Sha256,
    content_problem,
    extra_files,
    record_files,
    size_problem,
    stated_version,
)
from storage.provenance import code_version

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_MAX_MANIFEST_BYTES = 256 * 1024 * 1024
_OWN_FOLDERS = ("tmp", "locks", "corrupt", "failures")


def artifact_key(
    stage: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, str], weights: str = ""
) -> str:
    """The address of an artifact: SHA-256 of everything that decides its content.

    `params` are the parameters that the stage reads (JSON values), `inputs` the keys of its input artifacts
    by role, `weights` the fingerprint of the weights that it uses. Order in the mappings does not matter.
    """
    return sha256_json(
        {"stage": stage, "version": version, "params": dict(params), "inputs": dict(inputs), "weights": weights}
    )


class Manifest(BaseModel):
    """What an artifact is, where it came from and what its files must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    stage: str
    key: Sha256
    version: int
    params: dict[str, JsonValue]
    inputs: dict[str, str]
    weights: str
    subject: str
    files: dict[RelativeName, FileRecord] = Field(min_length=1)
    code_version: str
    duration_s: float = Field(ge=0)
    created: str


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A whole artifact: the folder of its payload, and its manifest."""

    path: Path
    manifest: Manifest


class ArtifactStore:
    """Artifacts below `root`; any number of threads and processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"artifact store {self.root}: expected a folder, found a file; choose another path")
        self._temp = self.root / "tmp"
        self._failures = FailureLog(self.root / "failures", self._temp)

    def has(self, stage: str, key: str) -> bool:
        """Whether the artifact is there (its manifest exists; nothing is read)."""
        with environment_errors(self.root):
            return Path(f"{self._folder(stage, key)}/{MANIFEST}").is_file()

    def path(self, stage: str, key: str) -> Path:
        """Folder of the payload. Raises MissingArtifact where it is absent."""
        if not self.has(stage, key):
            raise self._missing(stage, key)
        return self._folder(stage, key)

    def open(self, stage: str, key: str) -> Artifact:
        """The artifact, its files' sizes checked. Raises MissingArtifact if absent, CorruptArtifact if not whole."""
        return self._checked(stage, key, size_problem)

    def verify(self, stage: str, key: str) -> Artifact:
        """Like `open`, and reads every byte: SHA-256 of all files, and no file too many."""
        return self._checked(stage, key, content_problem, strangers=True)

    @contextmanager
    def commit(
        self,
        stage: str,
        key: str,
        *,
        version: int,
        params: Mapping[str, Any],
        inputs: Mapping[str, str],
        weights: str,
        subject: str,
    ) -> Iterator[Path]:
        """A temp folder for the payload, which becomes the artifact when the block ends without an exception.

        Where another process has made the same artifact meanwhile, that one stays. Raises StoreError for an
        empty payload, links in it, or a key that is not `artifact_key` of the other arguments.
        """
        final = self._folder(stage, key)
        if key != artifact_key(stage, version, params, inputs, weights):
            raise StoreError(f"artifact {stage}/{key[:12]}: its key is not that of the given parameters and inputs")
        started = time.monotonic()
        with (
            environment_errors(self.root),
            owned_folder(self._temp, f"{stage}-{key[:12]}") as out,
            environment_errors(self.root),  # before the temp folder goes: numpy's short writes show by the free space
        ):
            yield out
            manifest = Manifest(
                stage=stage,
                key=key,
                version=version,
                params=json.loads(canonical_json(dict(params))),
                inputs=dict(inputs),
                weights=weights,
                subject=subject,
                files=_payload(out, stage, key),
                code_version=code_version(),
                duration_s=round(time.monotonic() - started, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._publish(out, final, manifest)

    @contextmanager
    def lock(self, stage: str, key: str, *, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the artifact's lock (flock: the kernel frees it when its holder dies); then ask `has` again.

        Raises StoreError when another process still holds it after `timeout_s` (default: wait for ever).
        """
        self._folder(stage, key)
        lock = self.root / "locks" / f"{stage}-{key}.lock"
        with ExitStack() as held:
            with environment_errors(lock):
                make_folder(lock.parent)
                try:
                    held.enter_context(flocked(lock, timeout_s=timeout_s))
                except Timeout as error:
                    raise StoreError(
                        f"artifact {stage}/{key[:12]}: another process has held its lock {lock} for {timeout_s} s; "
                        "wait for that build or end it"
                    ) from error
                except OSError as error:
                    if error.errno not in (errno.EISDIR, errno.ELOOP):
                        raise
                    raise StorageUnavailable(
                        f"cannot use {lock}: expected a lock file or nothing, found a folder or a link; remove it"
                    ) from error
            yield

    def sweep(self) -> list[Path]:
        """Remove what killed runs left in `tmp` and `locks`; the folders of living ones stay. Returns what went."""
        with environment_errors(self.root):
            sweep_owned_folders(self.root / "locks")
            return sweep_owned_folders(self._temp)

    def record_failure(self, stage: str, key: str, subject: str, reason: str, traceback: str, attempts: int) -> Failure:
        """Quarantine: remember that this artifact could not be made. Reruns honour it until `clear_failures`."""
        self._folder(stage, key)
        with environment_errors(self.root):
            return self._failures.record(
                stage, key, subject=subject, reason=reason, traceback=traceback, attempts=attempts
            )

    def failure(self, stage: str, key: str) -> Failure | None:
        """The recorded failure of this artifact, or None."""
        with environment_errors(self.root):
            return self._failures.get(stage, key)

    def failures(self) -> list[Failure]:
        """All recorded failures, by stage and head."""
        with environment_errors(self.root):
            return self._failures.all()

    def clear_failures(self, artifacts: Iterable[tuple[str, str]]) -> None:
        """Forget the failures of these artifacts (stage, key), so that they are tried again."""
        with environment_errors(self.root):
            for stage, key in artifacts:
                self._failures.forget(stage, key)

    def _folder(self, stage: str, key: str) -> Path:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", stage) or stage in _OWN_FOLDERS:
            raise StoreError(
                f"stage name {stage!r}: expected lower-case letters, digits, - and _, none of {_OWN_FOLDERS}"
            )
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            raise StoreError(f"artifact key {key!r}: expected 64 hexadecimal digits, as artifact_key gives them")
        return Path(f"{self.root}/{stage}/{key[:2]}/{key}")

    def _publish(self, out: Path, final: Path, manifest: Manifest) -> None:
        (out / MANIFEST).write_text(manifest.model_dump_json(indent=1))
        flush_tree(out)
        if final.exists() and not (final / MANIFEST).is_file():
            self._quarantine(final, manifest.stage, manifest.key)
        try:
            rename_folder(out, final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def _checked(
        self, stage: str, key: str, problem: Callable[[Path, str, FileRecord], str | None], *, strangers: bool = False
    ) -> Artifact:
        folder = self.path(stage, key)
        with environment_errors(folder):
            try:
                manifest = _read_manifest(folder, stage, key)
                found = [what for name, record in manifest.files.items() if (what := problem(folder, name, record))]
                if strangers:
                    found += [
                        f"{name} is not in the manifest"
                        for name in extra_files(folder, manifest.files, without=[MANIFEST])
                    ]
            except FileNotFoundError as error:  # moved aside or removed by somebody else just now
                raise self._missing(stage, key) from error
            except ValueError as error:
                if isinstance(error, StoreError):
                    raise
                found = [" ".join(str(error).split())]
            if found:
                moved = self._quarantine(folder, stage, key)
                raise CorruptArtifact(
                    f"artifact {stage}/{key[:12]} is not whole: {'; '.join(found[:3])}. "
                    f"It was moved to {moved}; run the stage {stage} again to remake it"
                )
        return Artifact(path=folder, manifest=manifest)

    def _missing(self, stage: str, key: str) -> MissingArtifact:
        return MissingArtifact(f"artifact {stage}/{key[:12]} is not in {self.root}; run the stage {stage} to make it")

    def _quarantine(self, folder: Path, stage: str, key: str) -> Path:
        moved = self.root / "corrupt" / f"{stage}-{key}-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            rename_folder(folder, moved)
        return moved


def _payload(out: Path, stage: str, key: str) -> dict[str, FileRecord]:
    try:
        files = record_files(out)
    except ValueError as error:
        raise StoreError(f"artifact {stage}/{key[:12]}: {error}") from error
    if not files or MANIFEST in files:
        raise StoreError(
            f"artifact {stage}/{key[:12]}: expected a payload with files, none named {MANIFEST}, got {sorted(files)}"
        )
    return files


def _read_manifest(folder: Path, stage: str, key: str) -> Manifest:
    """The manifest in `folder`; ValueError if it is broken or another artifact's, StoreError if it is too new."""
    data = _manifest_bytes(folder / MANIFEST)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValueError:
        if (newest := stated_version(data)) > SCHEMA_VERSION:
            raise StoreError(
                f"artifact {stage}/{key[:12]}: its manifest has schema version {newest}, this software reads up to "
                f"{SCHEMA_VERSION}; use a newer version of the software"
            ) from None
        raise
    try:
        rebuilt = artifact_key(manifest.stage, manifest.version, manifest.params, manifest.inputs, manifest.weights)
    except StoreError as error:
        raise ValueError(f"{MANIFEST}: {error}") from error
    if (manifest.stage, manifest.key) != (stage, key) or rebuilt != key:
        raise ValueError(f"{MANIFEST} describes another artifact, {manifest.stage}/{manifest.key[:12]}")
    return manifest


def _manifest_bytes(path: Path) -> bytes:
    """The file's bytes; ValueError for a link, or for more than a manifest can be."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{MANIFEST} is a link: expected a file of its own")
    if found.st_size > _MAX_MANIFEST_BYTES:
        raise ValueError(f"{MANIFEST}: expected at most {_MAX_MANIFEST_BYTES} bytes, found {found.st_size}")
    return path.read_bytes()
