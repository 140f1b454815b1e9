"""Machines with GPUs that do not exist: an nvidia-smi that lists them."""

import os
from pathlib import Path

import pytest

from spinmeround.tasks.gpus import VISIBLE


def list_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch, listing: int | str) -> None:
    """Put an nvidia-smi first on the path that prints this listing, or that of so many GPUs. Nothing is hidden."""
    if isinstance(listing, int):
        listing = "".join(f"GPU {number}: A GPU (UUID: GPU-{number}a7c-11)\n" for number in range(listing))
    program = folder / "nvidia" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(VISIBLE, raising=False)
