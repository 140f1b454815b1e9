"""A checkout and a pickle on disk, by path and content only: nothing is imported or unpickled here."""

import hashlib
import subprocess
from functools import lru_cache
from pathlib import Path

from spinmeround.storage.errors import ConfigError

_EXPECTED = ("legacy.py", "dnnlib/__init__.py", "torch_utils/persistence.py", "training/triplane.py")
_SOURCES = ("legacy.py", "dnnlib", "torch_utils", "training")


def require_checkout(path: Path) -> Path:
    """`path`, absolute; raises ConfigError if it lacks source files that the bridge needs."""
    path = path.expanduser().resolve()
    missing = [name for name in _EXPECTED if not (path / name).is_file()]
    if missing:
        raise ConfigError(
            f"generator.options.checkout: expected a checkout of PanoHead in {path}, without "
            f"{', '.join(missing)}; clone the repository SizheAn/PanoHead from GitHub (of the generator spherehead "
            "lhyfst/SphereHead) and set this option to its folder"
        )
    return path


@lru_cache(maxsize=8)
def source_digest(checkout: Path) -> str:
    """SHA-256 of the names and contents of the Python files that make heads; uncommitted edits count too."""
    files: list[Path] = []
    for name in _SOURCES:
        files += (checkout / name).rglob("*.py") if (checkout / name).is_dir() else [checkout / name]
    digest = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{file.relative_to(checkout).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@lru_cache(maxsize=8)
def commit_of(checkout: Path) -> str:
    """The checked-out commit, with '+' if files differ from it; empty outside of a git checkout."""
    if not (checkout / ".git").exists():
        return ""
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        return commit + ("+" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True).stdout.strip()


def network_fingerprint(path: Path) -> str:
    """SHA-256 of a network's pickle, cached by its size and modification time.

    Raises:
        ConfigError: the file does not exist.
    """
    try:
        found = path.stat()
        return _sha256(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"generator.options.network: expected a PanoHead checkpoint at {path}, found none ({error.strerror}); "
            "PanoHead's README links the published checkpoints and their licence"
        ) from error


@lru_cache(maxsize=16)
def _sha256(path: Path, _size: int, _changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_trust(path: Path, sha256: str | None, trust: bool) -> str:
    """The SHA-256 of the pickle that the user agreed to run.

    Raises:
        ConfigError: the file differs from the one that the options name, or they name none.
    """
    found = network_fingerprint(path)
    if sha256 is not None and sha256 != found:
        raise ConfigError(
            f"generator.options.sha256: {path}: expected {sha256}, found {found}; the file has changed or is "
            "a different one, and was not opened, since unpickling runs the code in it"
        )
    if sha256 is None and not trust:
        raise ConfigError(
            f"generator.options.sha256: {path} is a pickle, and unpickling runs the code in it; if you trust its "
            f"source, set sha256 = {found!r} under [generator.options], or trust = true to run any file at this path"
        )
    return found
