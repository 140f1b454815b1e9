"""Fingerprints of external weights: the SHA-256 of each file, recorded next to them at first use.

The checksums of `x` are in the file `x.sha256` in the format of `sha256sum`, so `sha256sum -c x.sha256` checks them
too. `weights fetch` and `weights check` write the file; loading weights that have changed since raises an error.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from spinmeround.storage.documents import read_text
from spinmeround.storage.errors import SpinMeRoundError, environment_errors, shortened
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_file, sha256_listing
from spinmeround.storage.manifests import is_litter
from spinmeround.storage.weights.onnx_files import refuse_external_data

_ENTRY = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *](?P<name>.+)")
"""A line of `sha256sum`; the asterisk marks a file read in binary mode."""


def checksums_path(weights: Path) -> Path:
    """Path of the recorded checksums of a file or folder."""
    return weights.with_name(weights.name + ".sha256")


def checksums(weights: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path relative to the parent of `weights`; ignores hidden files and litter.

    A process reads a file with the same size and time only once. Raises SpinMeRoundError if `weights` does not exist,
    or is an ONNX file with constants in other files, which its hash does not cover.
    """
    if weights.is_file():
        if weights.suffix == ".onnx":
            _refuse_external_data(weights, *_state(weights))
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
    if checksums_path(weights).exists():
        _agree(weights, found, read_checksums(weights))
    if weights.is_file():
        return found[weights.name]
    return sha256_listing({name.partition("/")[2]: sha256 for name, sha256 in found.items()})


def record_checksums(weights: Path) -> str:
    """Record the checksums at first use, check them later; returns the fingerprint."""
    value = fingerprint(weights)
    path = checksums_path(weights)
    if not path.exists():
        lines = "".join(f"{sha256}  {name}\n" for name, sha256 in checksums(weights).items())
        with environment_errors(path):
            write_atomic(path, lines.encode())
    return value


def read_checksums(weights: Path) -> dict[str, str]:
    """The recorded SHA-256 of each file, as `sha256sum` writes them in text or binary mode, in either case.

    Raises SpinMeRoundError if the record is unreadable.
    """
    path = checksums_path(weights)
    found: dict[str, str] = {}
    for line in filter(str.strip, read_text(path, "lines with a SHA-256 and a name").splitlines()):
        if (entry := _ENTRY.fullmatch(line)) is None:
            raise SpinMeRoundError(
                f"{path}: expected lines with a SHA-256 and a name, found {shortened(repr(line), 80)}; remove it"
            )
        name, sha256 = entry["name"].removeprefix("./"), entry["sha256"].lower()
        if found.setdefault(name, sha256) != sha256:
            raise SpinMeRoundError(f"{path}: {shortened(name, 80)}: expected one SHA-256, found two; remove the file")
    if not found:
        raise SpinMeRoundError(f"{path}: expected lines with a SHA-256 and a name, found none; remove it")
    return found


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
    """Recorded checksums, hidden files of a downloader and litter, which are not part of the weights."""
    parts = path.relative_to(folder).parts
    return path.suffix == ".sha256" or is_litter("/".join(parts)) or any(name.startswith(".") for name in parts)


def _sha256(path: Path) -> str:
    return _sha256_of(path.resolve(), *_state(path))


def _state(path: Path) -> tuple[int, int, int]:
    """Size, time and inode of a file, which change with its content."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, size: int, modified_ns: int, inode: int) -> str:
    return sha256_file(path)


@lru_cache(maxsize=4096)
def _refuse_external_data(path: Path, size: int, modified_ns: int, inode: int) -> None:
    refuse_external_data(path)
