"""What external weights were when they were first used: SHA-256 of each file, kept beside them.

The record of `x` is the file `x.sha256` in the form of `sha256sum`, so `sha256sum -c x.sha256` checks it too.
`weights fetch` and `weights check` write it; whoever loads the weights later is refused when they are others.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from spinmeround.storage.errors import SpinMeRoundError, environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_file, sha256_listing


def checksums_path(weights: Path) -> Path:
    """Where the record of a file or a folder lies: beside it."""
    return weights.with_name(weights.name + ".sha256")


def checksums(weights: Path) -> dict[str, str]:
    """SHA-256 of each file by its name from the folder that holds `weights`; hidden files don't count.

    A file that has not changed since (size and time) is not read twice in a process.
    Raises SpinMeRoundError where nothing is.
    """
    if weights.is_file():
        files = [weights]
    elif weights.is_dir():
        files = sorted(path for path in weights.rglob("*") if path.is_file() and not _aside(path, weights))
    else:
        raise SpinMeRoundError(
            f"cannot fingerprint {weights}: expected a file or a folder, found nothing; "
            "'spinmeround weights check' with the profile tells how to get it"
        )
    return {path.relative_to(weights.parent).as_posix(): _sha256(path) for path in files}


def fingerprint(weights: Path) -> str:
    """SHA-256 that stands for a file or for a folder's files with their names, checked against the record if any.

    Raises SpinMeRoundError where nothing is, or where something else was there at first use.
    """
    found = checksums(weights)
    if checksums_path(weights).is_file():
        _agree(weights, found, read_checksums(weights))
    if weights.is_file():
        return found[weights.name]
    return sha256_listing({name.partition("/")[2]: sha256 for name, sha256 in found.items()})


def record_checksums(weights: Path) -> str:
    """Write the record at first use, check it later; returns the fingerprint."""
    value = fingerprint(weights)
    path = checksums_path(weights)
    if not path.is_file():
        lines = "".join(f"{sha256}  {name}\n" for name, sha256 in checksums(weights).items())
        with environment_errors(path):
            write_atomic(path, lines.encode())
    return value


def read_checksums(weights: Path) -> dict[str, str]:
    """The recorded SHA-256 of each file. Raises SpinMeRoundError where the record cannot be read."""
    path = checksums_path(weights)
    try:
        lines = [line.split("  ", 1) for line in path.read_text().splitlines() if line]
        return {name: sha256 for sha256, name in lines}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SpinMeRoundError(f"{path}: expected lines of a SHA-256 and a name, found {error}; remove it") from error


def _agree(weights: Path, found: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    names = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
    if not names:
        return
    name = names[0]
    was, now = (by.get(name, "no such file")[:12] for by in (recorded, found))
    raise SpinMeRoundError(
        f"{weights}: {name} has changed since its first use: expected SHA-256 {was}, found {now}; get it again, or, "
        f"where you mean to use other weights, remove {checksums_path(weights)}"
    )


def _aside(path: Path, folder: Path) -> bool:
    """Records and what a downloader keeps are no part of the weights."""
    return path.suffix == ".sha256" or any(name.startswith(".") for name in path.relative_to(folder).parts)


def _sha256(path: Path) -> str:
    state = path.stat()
    return _sha256_of(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, size: int, modified_ns: int, inode: int) -> str:
    return sha256_file(path)
