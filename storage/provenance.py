"""Which code made an artifact: the package's version and, in a git checkout of ours, its commit."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def code_version() -> str:
    """For instance `0.1.0+3f2a9c1-dirty`; just the version where the code lies in no git checkout of its own."""
    try:
        release = version("spinmeround")
    except PackageNotFoundError:
        release = "unknown"
    root = Path(__file__).resolve().parents[1]
    commit = _git_commit(root) if (root / ".git").exists() else ""
    return f"{release}+{commit}" if commit else release


def _git_commit(root: Path) -> str:
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
