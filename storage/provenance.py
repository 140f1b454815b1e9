"""Provenance of artifacts: the version of the code, the class of machine, and the flow run."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FLOW_RUN = "SPINMEROUND_FLOW_RUN"
"""Variable of the environment, which worker processes inherit."""


@cache
def code_version() -> str:
    """Version and commit, such as `0.1.0+3f2a9c1-dirty`; only the version outside a git checkout."""
    try:
        release = version("spinmeround")
    except PackageNotFoundError:
        release = "unknown"
    root = Path(__file__).resolve().parents[1]
    commit = _git_commit(root) if (root / ".git").exists() else ""
    return f"{release}+{commit}" if commit else release


@contextmanager
def made_in(run: str) -> Iterator[None]:
    """Let the artifacts that this process and those that it starts make in the block name this flow run."""
    before = os.environ.get(FLOW_RUN)
    os.environ[FLOW_RUN] = run
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(FLOW_RUN, None)
        else:
            os.environ[FLOW_RUN] = before


def flow_run() -> str:
    """Id of the flow run in which this process makes artifacts; empty outside of one."""
    return os.environ.get(FLOW_RUN, "")


@cache
def machine_class() -> str:
    """Class of this machine, such as `x86_64, 2 cores` or `x86_64, 16 cores, NVIDIA H100 80GB HBM3`; no host name."""
    cores = os.cpu_count() or 1
    parts = [platform.machine() or "unknown", f"{cores} core{'s' if cores > 1 else ''}", *_gpus()]
    return ", ".join(parts)


def _gpus() -> list[str]:
    """Models of the NVIDIA GPUs, from the driver's files: importing a library would take seconds."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [
        found.group(1).strip()
        for file in files
        if (found := re.search(r"Model:(.*)", file.read_text(encoding="utf-8")))
    ]
    return [name if models.count(name) == 1 else f"{models.count(name)} x {name}" for name in dict.fromkeys(models)]


def _git_commit(root: Path) -> str:
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
