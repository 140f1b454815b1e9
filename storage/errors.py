"""Errors that a user can act on, in one or two lines: the field or file, what was expected, what was found, what to do.

A `SpinMeRoundError` reports invalid input or data. An `EnvironmentUnavailable` reports a failure of the environment:
a `StorageUnavailable` of the disk (full, read-only, no permission), a `DeviceUnavailable` of a GPU or of memory. It
ends a build and never counts as a failure of a head.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic_core import ErrorDetails, ValidationError

_LONGEST = 2000
"""Characters of an error; a damaged file may hold a name or a number of any length, which an error quotes."""

_CREDENTIALS = re.compile(
    r"""(\b(?!git\+ssh:|ssh:)[a-z][a-z0-9+.-]*://)  # the user of ssh is no secret
    (?: [^\s/?#@:'"]*:(?!\d+[/?\#])[^\s'"]*@  # a password may have any characters, a port has digits alone
      | [^\s/?#@:'"]+@ )""",
    re.IGNORECASE | re.VERBOSE,
)


class SpinMeRoundError(ValueError):
    """Base of the errors that are shown to the user without a traceback.

    As text, one that is too long keeps its beginning, which names the file, and its end, which says what to do. User
    and password of a URL are left out.
    """

    def __str__(self) -> str:
        text = without_credentials(super().__str__())
        half = _LONGEST // 2
        return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


class ConfigError(SpinMeRoundError):
    """An invalid profile or option."""


class StoreError(SpinMeRoundError):
    """A request that the artifact store cannot serve."""


class MissingArtifact(StoreError):
    """An artifact that does not exist, or no longer exists."""


class CorruptArtifact(StoreError):
    """A payload that does not match its manifest; it was moved aside and can be made again."""


class LockHeld(StoreError):
    """Another process holds the lock of what was asked for."""


class DatasetError(SpinMeRoundError):
    """A dataset that violates its schema, or incompatible heads."""


class NewerDataset(DatasetError):
    """A dataset written by a newer version of this software."""


class EnvironmentUnavailable(SpinMeRoundError):
    """A failure of the machine that a head or an input is not to blame for. Ends a build."""


class MissingDependency(EnvironmentUnavailable):
    """A feature that needs a module of an extra that is not installed."""


class StorageUnavailable(EnvironmentUnavailable):
    """The file system or the server refuses: full, read-only, no permission, failing."""


class DeviceUnavailable(EnvironmentUnavailable):
    """A GPU is missing or fails, or the memory of a GPU or of this machine ran out."""


class Interrupted(EnvironmentUnavailable):
    """Something long was asked to end and has saved its progress: run again, it continues."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception's text on one line of at most `limit` characters; its class name if it has no text."""
    text = validation_message(error) if isinstance(error, ValidationError) else str(error)
    text = without_credentials(text)
    return shortened(" ".join(text.split()), limit) or type(error).__name__


def without_credentials(text: str) -> str:
    """The text without user and password in each URL of it."""
    return _CREDENTIALS.sub(r"\1", text)


def shortened(text: str, limit: int) -> str:
    """The text, cut to `limit` characters and an ellipsis if it is longer."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def printable(name: str, limit: int = 40) -> str:
    """A name from a file, as `shortened`, and escaped if it has characters that do not print."""
    return shortened(name if name.isprintable() else ascii(name), limit)


def field_message(problem: ErrorDetails) -> str:
    """One of pydantic's problems on one line: the field's path, what was expected, what was found."""
    field = ".".join(str(part) for part in problem["loc"])
    prefix = f"{field}: " if field else ""
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        return f"{prefix}unknown field"
    if problem["type"] == "missing":
        return f"{prefix}expected this field, found none"
    if problem["type"] == "value_error" or not field:
        return prefix + problem["msg"].removeprefix("Value error, ")
    return f"{prefix}{problem['msg'][0].lower()}{problem['msg'][1:]}, got {shortened(repr(problem['input']), 80)}"


def validation_message(
    error: Exception, describe: Callable[[ErrorDetails], str] = field_message, *, separator: str = "; "
) -> str:
    """An exception on one line: the first two problems of a pydantic ValidationError, by `describe`."""
    if not isinstance(error, ValidationError):
        return one_line(error)
    return separator.join(describe(problem) for problem in error.errors(include_url=False)[:2])


@contextmanager
def as_config_error(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError inside the block into a ConfigError of one line that begins with `prefix`."""
    try:
        yield
    except SpinMeRoundError:
        raise
    except ValueError as error:
        raise ConfigError(f"{prefix}{validation_message(error)}") from error


_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder, then run again",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder, then run again",
    errno.EROFS: "the file system is read-only: choose a writable folder",
    errno.EACCES: "permission denied: change the folder's permissions or choose another folder",
    errno.EPERM: "operation not permitted: change the folder's permissions or choose another folder",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTDIR: "a file is where a folder is expected: move the file away or choose another folder",
    errno.EISDIR: "a folder is where a file is expected: move the folder away or choose another file",
    errno.ELOOP: "symbolic links lead to each other: correct them",
    errno.EIO: "the disk reports input/output errors: check it, then run again",
}
_NEARLY_FULL_BYTES = 64 * 1024


@contextmanager
def environment_errors(target: Path) -> Iterator[None]:
    """Turn a failure of the file system inside the block into a `StorageUnavailable` that names the path.

    Other exceptions pass unchanged. The message names `target` if the failure names no file.
    """
    try:
        yield
    except StorageUnavailable:
        raise
    except Exception as error:
        code = _environment_errno(error, target)
        if code is None:
            raise
        raise _unavailable(_place_of(error) or target, code) from error


def file_failure(error: BaseException) -> StorageUnavailable | None:
    """The failure of the file system that an OSError with the name of a file reports; None for any other error."""
    if isinstance(error, OSError) and error.errno in _ADVICE and _place_of(error) is not None:
        return _unavailable(_place_of(error), error.errno)
    return None


def _place_of(error: BaseException) -> object:
    """The file that a failure names, the target of a rename rather than its temporary source; None for none."""
    return getattr(error, "filename2", None) or getattr(error, "filename", None)


def _unavailable(path: object, code: int) -> StorageUnavailable:
    shown = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
    return StorageUnavailable(f"cannot use {shortened(shown, 200)}: {_ADVICE[code]}")


def _environment_errno(error: BaseException, target: Path) -> int | None:
    """The errno of an environment failure in `error` or its explicit causes, or None.

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


_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|unable to allocate|failed to allocate memory"
    r"|\bMemoryError\b|OutOfMemoryError|_ALLOC_FAILED",
    re.IGNORECASE,
)
_NO_DEVICE = re.compile(
    r"\bCUDA (driver )?error|\bCUDA failure|no CUDA GPUs|no NVIDIA (driver|GPU)|not compiled with CUDA|cudaError"
    r"|\bEP_FAIL\b|NVIDIA driver on your system is too old|No HIP GPUs|\bHIP error"
    r"|\b(CUBLAS|CUDNN|CUSOLVER|CUFFT|CUSPARSE)[ _](STATUS_|error|failure)|\bAcceleratorError\b",
    re.IGNORECASE,
)


def device_failure(error: BaseException) -> DeviceUnavailable | None:
    """The failure of a GPU or of memory that `error`, or an explicit cause of it, reports; None for any other error.

    Libraries raise their own classes for one failure: MemoryError, torch's OutOfMemoryError, AcceleratorError and
    RuntimeError, onnxruntime's Fail. They are recognised by their text, but no ValueError is: it may quote a file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SpinMeRoundError):  # whoever raised it has decided what it is
            return cause if isinstance(cause, DeviceUnavailable) else None
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return _out_of_memory(one_line(cause))
        if not isinstance(cause, ValueError | OSError) and (found := device_failure_in(_named(cause))):
            return found
        cause = cause.__cause__
    return None


def device_failure_in(text: str) -> DeviceUnavailable | None:
    """The failure that a process reports as `CLASS: message`; None if it is of another kind."""
    if _OUT_OF_MEMORY.search(text):
        return _out_of_memory(shortened(text, 300))
    if _NO_DEVICE.search(text):
        return DeviceUnavailable(
            f"the GPU cannot be used ({shortened(text, 300)}): check it with nvidia-smi, or hide it with "
            "CUDA_VISIBLE_DEVICES= to compute on the CPU, then run again"
        )
    return None


def _named(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _out_of_memory(text: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"out of memory ({text}): end other programs that use it, or use fewer workers (--workers) or smaller batches, "
        "then run again"
    )
