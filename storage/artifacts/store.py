"""The artifact store: results of the stages, addressed by everything that decides their content.

    <root>/<stage>/<key[:2]>/<key>/   the payload and manifest.json
    <root>/locks, corrupt, failures, runs, models

The root is a local folder or the URL of an object store (`s3://bucket/prefix`), with the same semantics: an artifact
is complete or absent, even if its maker is killed, and two concurrent makers do no harm. Payloads are made and read
in local folders. `open` detects missing and truncated files, `verify` also changed bytes; `examine` checks the stored
payload. A payload that does not match its manifest is moved to `corrupt/`, reported, and can then be made again.
Failures of the file system or the server become `StorageUnavailable`.
"""

import errno
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from spinmeround.storage.artifacts.backend import RESERVED_FOLDERS, Backend
from spinmeround.storage.artifacts.failures import Failure, FailureLog
from spinmeround.storage.artifacts.key import artifact_key
from spinmeround.storage.artifacts.local_backend import LocalBackend
from spinmeround.storage.artifacts.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Manifest,
    parse_manifest,
    plain_json,
)
from spinmeround.storage.errors import (
    CorruptArtifact,
    LockHeld,
    MissingArtifact,
    SpinMeRoundError,
    StorageUnavailable,
    StoreError,
    environment_errors,
    validation_message,
)
from spinmeround.storage.extras import optional_dependency
from spinmeround.storage.files import owned_folder
from spinmeround.storage.manifests import FileRecord, record_files
from spinmeround.storage.numbers import check_payload
from spinmeround.storage.provenance import code_version, flow_run, machine_class

__all__ = ["MANIFEST", "SCHEMA_VERSION", "Artifact", "ArtifactStore", "Manifest", "Outcome", "artifact_key"]

Outcome = Literal["made", "reused"]
"""Whether a call of `make_once` made the artifact or found it."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A complete artifact: the local folder of its payload, and its manifest."""

    path: Path
    manifest: Manifest


def is_url(root: Path | str) -> bool:
    """Whether a store's root is the URL of an object store."""
    return isinstance(root, str) and "://" in root


class ArtifactStore:
    """Artifacts below `root`, a folder or an s3:// URL; any number of threads and processes may share it."""

    def __init__(self, root: Path | str, backend: Backend | None = None) -> None:
        self.backend = backend or _backend(root)
        self.root: Path | str = self.backend.root
        self._place = Path(self.root)
        """Only for messages about the file system."""
        self._failures = FailureLog(self.backend.blobs)

    def has(self, stage: str, key: str) -> bool:
        """Whether the artifact exists: its manifest does; nothing is read."""
        check_names(stage, key)
        with environment_errors(self._place):
            return self.backend.has(stage, key)

    def path(self, stage: str, key: str) -> Path:
        """Local folder of the payload, checked as by `open`. Raises MissingArtifact if it is absent."""
        return self.open(stage, key).path

    def manifest(self, stage: str, key: str) -> Manifest:
        """The manifest of an artifact; does not check its payload.

        Raises MissingArtifact if it is absent, CorruptArtifact if it is broken (it stays), StoreError if its version is
        too new.
        """
        try:
            return self._parsed(stage, key)[0]
        except ValueError as error:
            if isinstance(error, SpinMeRoundError):
                raise
            raise CorruptArtifact(
                f"artifact {stage}/{key[:12]} is damaged: {validation_message(error)}; run 'spinmeround store verify'"
            ) from error

    def open(self, stage: str, key: str) -> Artifact:
        """The artifact, whose files have the right sizes. Raises MissingArtifact or CorruptArtifact."""
        return self._delivered(stage, key, full=False)

    def verify(self, stage: str, key: str) -> Artifact:
        """Like `open`, but reads every byte: checks the SHA-256 of all files and that no others exist."""
        return self._delivered(stage, key, full=True)

    @contextmanager
    def borrowed(self, stage: str, key: str) -> Iterator[Artifact]:
        """Like `verify`; keeps the local copy of an object store's artifact for the duration of the block."""
        check_names(stage, key)
        with self.backend.pinned(stage, key):
            yield self.verify(stage, key)

    def examine(self, stage: str, key: str) -> list[str]:
        """Problems of the stored artifact; reads every byte, changes nothing.

        Raises StoreError if it is absent or of a newer version of the software.
        """
        with environment_errors(self._place):
            try:
                return self.backend.examine(self._parsed(stage, key)[0])
            except ValueError as error:
                if isinstance(error, StoreError):
                    raise
                return [validation_message(error)]

    def set_aside(self, stage: str, key: str) -> str:
        """Move a damaged artifact to `corrupt`, so that it can be made again; returns its new place."""
        check_names(stage, key)
        with environment_errors(self._place):
            return self.backend.set_aside(stage, key)

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
        """A temporary folder for the payload, which becomes the artifact when the block ends without an exception.

        If another process has made the same artifact in the meantime, that one stays. Raises StoreError for an
        empty payload, for symbolic links in it, or for a key that is not the `artifact_key` of the other arguments, and
        SpinMeRoundError, which names stage, head, file and array, for numbers that are not finite (`storage.numbers`).
        """
        check_names(stage, key)
        if key != artifact_key(stage, version, params, inputs, weights):
            raise StoreError(
                f"artifact {stage}/{key[:12]}: expected the key of these parameters and inputs, got another"
            )
        started = time.monotonic()
        with (
            environment_errors(self._place),
            owned_folder(self.backend.scratch, f"{stage}-{key[:12]}") as out,
            environment_errors(self.backend.scratch),  # inside: a full disk shows before the folder is removed
        ):
            yield out
            check_payload(out, f"{stage} {subject}")
            manifest = Manifest(
                stage=stage,
                key=key,
                version=version,
                params=plain_json(params),
                inputs=dict(inputs),
                weights=weights,
                subject=subject,
                files=_payload(out, stage, key),
                code_version=code_version(),
                duration_s=round(time.monotonic() - started, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=machine_class(),
                flow_run=flow_run(),
            )
            self.backend.publish(out, manifest)

    def make_once(
        self,
        stage: str,
        key: str,
        make: Callable[[Path], None],
        *,
        version: int,
        params: Mapping[str, Any],
        inputs: Mapping[str, str],
        weights: str,
        subject: str,
        patience_s: float | None = None,
    ) -> Outcome:
        """Make an artifact unless it exists: `make` fills the empty folder that it gets.

        Of several callers, threads or processes, one makes it and the others wait and reuse it. Local copies of the
        inputs (stage -> key) are kept until the artifact is committed. Raises what `make` raises, as `commit`, and
        LockHeld if another caller still makes it after `patience_s` (default: wait without limit).
        """
        if self.has(stage, key):
            return "reused"
        with ExitStack() as stack:
            stack.enter_context(self.lock(stage, key, timeout_s=patience_s))
            if self.has(stage, key):
                return "reused"
            for role, input_key in inputs.items():
                if _fault(role, input_key) is None:
                    stack.enter_context(self.backend.pinned(role, input_key))
            committed = self.commit(
                stage, key, version=version, params=params, inputs=inputs, weights=weights, subject=subject
            )
            make(stack.enter_context(committed))
        return "made"

    @contextmanager
    def lock(self, stage: str, key: str, *, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock of an artifact; call `has` again inside, since another process may have made it.

        When its holder dies, a local lock is freed at once, one on an object store expires. Raises LockHeld if
        another process still holds it after `timeout_s` (default: wait without limit).
        """
        check_names(stage, key)
        with self.named_lock(f"{stage}-{key}", f"artifact {stage}/{key[:12]}", timeout_s=timeout_s):
            yield

    def locked(self, stage: str, key: str) -> bool:
        """Whether another process holds the lock of an artifact at this moment."""
        try:
            with self.lock(stage, key, timeout_s=0.0):
                return False
        except LockHeld:
            return True

    @contextmanager
    def named_lock(self, name: str, what: str, *, timeout_s: float | None = None) -> Iterator[None]:
        """Hold a lock of the store by its name; error messages name `what` is locked."""
        with ExitStack() as held:
            with environment_errors(self._place / "locks" / f"{name}.lock"):
                try:
                    held.enter_context(self.backend.hold(name, timeout_s))
                except TimeoutError as error:
                    raise LockHeld(
                        f"{what}: another process has held its lock {self.root}/locks/{name}.lock for {timeout_s} s; "
                        "wait for that build or stop it"
                    ) from error
                except OSError as error:
                    if error.errno not in (errno.EISDIR, errno.ELOOP):
                        raise
                    raise StorageUnavailable(
                        f"cannot use {self.root}/locks/{name}.lock: expected a lock file, found a folder or a link; "
                        "remove it"
                    ) from error
            yield

    def sweep(self) -> list[Path]:
        """Remove what killed runs left in `tmp` and `locks`, not what active runs use; returns the removed folders."""
        with environment_errors(self._place):
            return self.backend.sweep()

    def record_failure(self, stage: str, key: str, subject: str, reason: str, traceback: str, attempts: int) -> Failure:
        """Record that this artifact could not be made. Reruns skip it until `clear_failures`."""
        check_names(stage, key)
        with environment_errors(self._place):
            return self._failures.record(
                stage, key, subject=subject, reason=reason, traceback=traceback, attempts=attempts
            )

    def failure(self, stage: str, key: str) -> Failure | None:
        """The recorded failure of this artifact, or None."""
        with environment_errors(self._place):
            return self._failures.get(stage, key)

    def failures(self) -> list[Failure]:
        """All recorded failures, by stage and head."""
        with environment_errors(self._place):
            return self._failures.all()

    def clear_failures(self, artifacts: Iterable[tuple[str, str]]) -> None:
        """Remove the failure records of these artifacts (stage, key), so that they are tried again."""
        with environment_errors(self._place):
            for stage, key in artifacts:
                self._failures.forget(stage, key)

    def _parsed(self, stage: str, key: str) -> tuple[Manifest, bytes]:
        check_names(stage, key)
        with environment_errors(self._place):
            data = self.backend.manifest(stage, key)
        if data is None:
            raise self._missing(stage, key)
        return parse_manifest(data, stage, key), data

    def _missing(self, stage: str, key: str) -> MissingArtifact:
        return MissingArtifact(f"artifact {stage}/{key[:12]} does not exist in {self.root}; run the stage {stage}")

    def _delivered(self, stage: str, key: str, *, full: bool) -> Artifact:
        with environment_errors(self._place):
            try:
                manifest, data = self._parsed(stage, key)
                found = self.backend.deliver(manifest, data, full=full)
                if not found:
                    return Artifact(path=self.backend.folder(manifest), manifest=manifest)
            except ValueError as error:
                if isinstance(error, SpinMeRoundError):
                    raise
                found = [validation_message(error)]
            except FileNotFoundError as error:
                found = [f"{error.filename} is missing"]
            if not self.backend.has(stage, key):
                raise self._missing(stage, key)
            raise CorruptArtifact(
                f"artifact {stage}/{key[:12]} is damaged: {'; '.join(found[:3])}. "
                f"It was moved to {self.backend.set_aside(stage, key)}; run the stage {stage} again to remake it"
            )


def check_names(stage: str, key: str) -> None:
    """Raises StoreError for a stage or key that is not a plain name and might point outside its folder."""
    if fault := _fault(stage, key):
        raise StoreError(fault)


def _fault(stage: str, key: str) -> str | None:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", stage) or stage in RESERVED_FOLDERS:
        return f"stage name {stage!r}: expected lower-case letters, digits, - and _, none of {RESERVED_FOLDERS}"
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        return f"artifact key {key!r}: expected 64 hexadecimal digits, from artifact_key"
    return None


def _backend(root: Path | str) -> Backend:
    if not is_url(root):
        return LocalBackend(Path(root))
    with optional_dependency(f"artifact store {root}"):  # only URLs need obstore
        from spinmeround.storage.artifacts.s3_backend import object_backend
    return object_backend(str(root))


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
