"""Atomic writes: files and folders are written under a temporary name, flushed to the disk, then renamed.

A temporary folder belongs to the process that holds the flock of the `.lock` file next to it. The kernel frees the
lock when that process dies, so leftovers are distinguished from work in progress without clocks or process ids. Only
its holder unlinks a lock file; a waiter that acquires an unlinked file starts over (filelock does this).
"""

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

READ_ONLY = 0o444
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


@contextmanager
def flocked(path: Path, *, timeout_s: float | None = None) -> Iterator[None]:
    """Hold the exclusive flock of the lock file `path`; raises filelock.Timeout after `timeout_s` (default: never)."""
    timeout = -1 if timeout_s is None else timeout_s
    lock = FileLock(path, timeout=timeout, thread_local=False, fallback_to_soft=False)
    with lock:
        try:
            yield
        finally:
            _remove(path)


@contextmanager
def owned_folder(parent: Path, label: str) -> Iterator[Path]:
    """A new empty folder in `parent`, removed when the block ends unless it was renamed."""
    make_folder(parent)
    folder = parent / f"{label}-{secrets.token_hex(8)}"
    with flocked(lock_of(folder)):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove(temporary: Path) -> None:
    """Remove a temporary file or a lock; a failure, as on a disk that fails, must not hide the error before it."""
    with suppress(OSError):
        temporary.unlink()


def lock_of(folder: Path) -> Path:
    """The lock file of an owned folder: next to it, so that the folder holds only its payload."""
    return folder.with_name(folder.name + ".lock")


def sweep_owned_folders(parent: Path) -> list[Path]:
    """Remove the owned folders of dead processes, and return them; those of running processes stay."""
    locks = sorted(parent.glob("*.lock"))
    return [path.with_suffix("") for path in locks if _sweep_one(path)]


def _sweep_one(lock: Path) -> bool:
    folder = lock.with_suffix("")
    try:
        with flocked(lock, timeout_s=0.0):
            existed = folder.is_dir()
            if existed:
                shutil.rmtree(folder)
            return existed
    except Timeout:
        return False


def make_folder(path: Path, *, flush: bool = True) -> None:
    """Make a folder and its parents; with `flush`, their names survive a power cut.

    Raises NotADirectoryError if it or one of its parents is a file, OSError that names it if it cannot be made.
    """
    if path.is_dir():
        return
    make_folder(path.parent, flush=flush)
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    except FileNotFoundError as error:  # of a file system in which nobody makes folders, as /proc
        if not path.parent.is_dir():
            raise
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path)) from error
    if flush:
        fsync(path.parent)


def fsync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(root: Path) -> None:
    """Flush all files below a folder, and their names, to the disk.

    Every fsync waits for the disk, so on Linux one call of syncfs flushes the entire file system instead.
    """
    flush = _syncfs()
    if flush is None:
        for folder, _, files in os.walk(root, topdown=False):
            for name in (*files, ""):
                fsync(Path(folder, name))
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        if flush(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(descriptor)


@cache
def _syncfs() -> Callable[[int], int] | None:
    """The system call that flushes the file system of a descriptor, None if it is not available."""
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def make_read_only(root: Path) -> None:
    """Take the permission to write from all files below a folder; its folders stay writable, so it can be removed."""
    for folder, _, names in os.walk(root):
        for name in names:
            Path(folder, name).chmod(READ_ONLY)


def write_atomic(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Replace the file `path` atomically: readers see the old or the new content, never a mixture.

    The temporary file is made in `scratch`, a folder on the same file system; default: next to `path`.
    """
    make_folder(path.parent)
    temp = (scratch or path.parent) / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with temp.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        _remove(temp)
        raise
    fsync(path.parent)


def rename_folder(source: Path, target: Path, *, flush: bool = True) -> None:
    """Give a finished folder its final name. Raises FileExistsError or OSError (ENOTEMPTY) if it is taken.

    Without `flush`, a power cut may undo the rename.
    """
    make_folder(target.parent, flush=flush)
    source.rename(target)
    if flush:
        fsync(target.parent)


def link_or_copy(source: Path, target: Path, *, flush: bool = True) -> None:
    """Hard-link a file to `target`, replacing an existing file; copies it on file systems without hard links.

    A copy has the permissions of the file. Without `flush`, the caller flushes the folder, once for many files.
    """
    make_folder(target.parent, flush=flush)
    temp = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        try:
            os.link(source, temp)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copy(source, temp)
            fsync(temp)
        temp.replace(target)
    finally:
        _remove(temp)
    if flush:
        fsync(target.parent)
