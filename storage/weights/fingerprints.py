"""Fingerprints of external weights: the SHA-256 of each file, recorded next to them at first use.

The checksums of `x` are in the file `x.sha256` in the format of `sha256sum`, so `sha256sum -c x.sha256` checks them
too. `weights fetch` and `weights check` write the file; loading weights that have changed since raises an error.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from spinmeround.storage.errors import SpinMeRoundError, environment_errors, shortened
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_file, sha256_listing


def checksums_path(weights: Path) -> Path:
    """Path of the recorded checksums of a file or folder."""
    return weights.with_name(weights.name + ".sha256")


def checksums(weights: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path relative to the parent of `weights`; ignores hidden files.

    A process reads a file with the same size and time only once. Raises SpinMeRoundError if `weights` does not exist.
    """
    if weights.is_file():
        files = [weights]
    elif weights.is_dir():
        files = sorted(path for path in weights.rglob("*") if path.is_file() and not _is_ignored(path, weights))
    else:
        raise SpinMeRoundError(
            f"cannot fingerprint {weights}: expected a file or a folder, found nothing; "
            "'spinmeround weights check' with the profile prints how to get it"
        )
    return {path.relative_to(weights.parent).as_posix(): _sha256(path) for path in files}


def fingerprint(weights: Path) -> str:
    """One SHA-256 of a file, or of a folder's files and names; checked against the recorded checksums, if they exist.

    Raises SpinMeRoundError if `weights` does not exist or has changed since its first use.
    """
    found = checksums(weights)
    if checksums_path(weights).is_file():
        _agree(weights, found, read_checksums(weights))
    if weights.is_file():
        return found[weights.name]
    return sha256_listing({name.partition("/")[2]: sha256 for name, sha256 in found.items()})


def record_checksums(weights: Path) -> str:
    """Record the checksums at first use, check them later; returns the fingerprint."""
    value = fingerprint(weights)
    path = checksums_path(weights)
    if not path.is_file():
        lines = "".join(f"{sha256}  {name}\n" for name, sha256 in checksums(weights).items())
        with environment_errors(path):
            write_atomic(path, lines.encode())
    return value


def read_checksums(weights: Path) -> dict[str, str]:
    """The recorded SHA-256 of each file. Raises SpinMeRoundError if the record is unreadable."""
    path = checksums_path(weights)
    try:
        lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines() if line]
        return {name: sha256 for sha256, name in lines}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SpinMeRoundError(f"{path}: expected lines with a SHA-256 and a name, found {error}; remove it") from error


def _agree(weights: Path, found: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    names = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
    if not names:
        return
    name = names[0]
    was, now = (by.get(name, "no such file")[:12] for by in (recorded, found))
    raise SpinMeRoundError(
        f"{weights}: {shortened(name, 200)} has changed since its first use: expected SHA-256 {was}, found {now}; "
        f"get it again, or, to use other weights, remove {checksums_path(weights)}"
    )


def _is_ignored(path: Path, folder: Path) -> bool:
    """Recorded checksums and hidden files of a downloader, which are not part of the weights."""
    return path.suffix == ".sha256" or any(name.startswith(".") for name in path.relative_to(folder).parts)


def _sha256(path: Path) -> str:
    state = path.stat()
    return _sha256_of(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, size: int, modified_ns: int, inode: int) -> str:
    return sha256_file(path)
