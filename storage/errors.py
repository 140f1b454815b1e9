"""Errors that a user can act on: what, what was expected, what was found, what to do, in a line or two.

`SpinMeRoundError` and its kinds are mistakes in what was given or found. `StorageUnavailable` is the
environment's fault (disk full, read-only, no permission): it ends a build and is never blamed on a head.
"""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SpinMeRoundError(ValueError):
    """Base of the errors that are shown to the user as they are, without a traceback."""


class ConfigError(SpinMeRoundError):
    """A profile or an option that can't be."""


class StoreError(SpinMeRoundError):
    """The artifact store was asked for something that it does not have or does not take."""


class MissingArtifact(StoreError):
    """An artifact that is not there, or not any more."""


class CorruptArtifact(StoreError):
    """A payload that does not match its manifest; it has been moved aside and can be made again."""


class DatasetError(SpinMeRoundError):
    """A dataset that is not what its schema says, or heads that don't fit together."""


class NewerDataset(DatasetError):
    """A dataset that a newer version of this software wrote."""


class StorageUnavailable(SpinMeRoundError):
    """The file system refuses: full, read-only, no permission, failing."""


@contextmanager
def as_config_error(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError inside the block into a ConfigError of one line that begins with `prefix`."""
    try:
        yield
    except SpinMeRoundError:
        raise
    except ValueError as error:
        raise ConfigError(f"{prefix}{' '.join(str(error).split())}") from error


_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder, then run again",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder, then run again",
    errno.EROFS: "the file system is read-only: choose a folder that can be written",
    errno.EACCES: "permission denied: change the folder's permissions or choose another folder",
    errno.EPERM: "operation not permitted: change the folder's permissions or choose another folder",
    errno.EIO: "the disk reports input/output errors: check it, then run again",
}
_NEARLY_FULL_BYTES = 64 * 1024


@contextmanager
def environment_errors(target: Path) -> Iterator[None]:
    """Turn a failure of the file system inside the block into `StorageUnavailable` that names the path.

    Other exceptions pass as they are. `target` is named where the failure does not name a file.
    """
    try:
        yield
    except StorageUnavailable:
        raise
    except Exception as error:
        code = _environment_errno(error, target)
        if code is None:
            raise
        path = getattr(error, "filename", None) or target
        raise StorageUnavailable(f"cannot use {path}: {_ADVICE[code]}") from error


def _environment_errno(error: BaseException, target: Path) -> int | None:
    """The errno of an environment failure in `error` or its declared causes, else None.

    Rust libraries put the errno in their text; numpy's tofile raises a bare OSError on a short write.
    """
    cause: BaseException | None = error
    while cause is not None:
        code = cause.errno if isinstance(cause, OSError) else None
        if code is None and (found := re.search(r"\(os error (\d+)\)", str(cause))):
            code = int(found.group(1))
        if code is None and isinstance(cause, OSError) and _nearly_full(target):
            code = errno.ENOSPC
        if code in _ADVICE:
            return code
        cause = cause.__cause__
    return None


def _nearly_full(target: Path) -> bool:
    existing = next((folder for folder in (target, *target.parents) if folder.exists()), None)
    return existing is not None and shutil.disk_usage(existing).free < _NEARLY_FULL_BYTES
