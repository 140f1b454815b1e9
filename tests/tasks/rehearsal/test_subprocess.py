"""Calls in a separate process: memory and time that are measured."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from spinmeround.tasks.rehearsal import subprocess as module
from spinmeround.tasks.rehearsal.subprocess import call_in_process, cpu_seconds

MIB = 2**20


def test_memory_in_use_on_a_gpu_is_the_growth_over_that_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stub of nvidia-smi and two GPUs: the largest growth of either. Without one it is unknown."""
    levels = tmp_path / "levels"
    levels.write_text("100\n500\n")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat {levels}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module, "_POLL_S", 0.05)
    with module._DeviceMemory() as memory:
        levels.write_text("164\n510\n")
        for _ in range(200):
            if memory.peak:
                break
            time.sleep(0.05)
        levels.write_text("100\n500\n")
    assert memory.peak == 64 * MIB
    monkeypatch.setenv("PATH", "")
    assert call_in_process("nothing", int)[1].device is None


def test_time_of_children_counts() -> None:
    """A child that computes for some time adds that to the time of all cores, while it runs and afterwards."""
    began = cpu_seconds()
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = cpu_seconds() - began
        child.communicate(b"\n")
    assert running >= 0.4
    assert cpu_seconds() - began >= 0.4
