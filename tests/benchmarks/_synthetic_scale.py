"""Opens and checks synthetic datasets of many heads, each step in a process of its own, which measures its peak memory.

Metadata, listing and small arrays are complete; the shards are absent, since opening must not touch them, except for
the heads whose files are verified.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinmeround.storage.errors import SpinMeRoundError
from tests.support.inodes import dataset_inodes
from tests.support.synthetic import write_synthetic

ROOT = Path(__file__).parents[2]

_MEASURE = """
import json, re, sys, time
from pathlib import Path
from spinmeround.storage.dataset import HeadDataset, read_manifest, verify
def act(path):
    if sys.argv[2] == "open":
        return len(HeadDataset.open(path))
    if sys.argv[2] == "listing":
        return sum(len(records) for records in read_manifest(path).blocks())
    if problems := verify(path):
        sys.exit(f"expected an intact dataset, found {problems[0]}")
    return len(HeadDataset.open(path))
wall, cpu = time.perf_counter(), time.process_time()
count = act(Path(sys.argv[1]))
found = {"seconds": time.perf_counter() - wall, "CPU s": time.process_time() - cpu, "count": count}
peak_kb = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1]
print(json.dumps({**found, "MB": int(peak_kb) / 2**10}))
"""
"""Not `ru_maxrss`, which has the peak of the process that started this one."""


def opened(folder: Path, heads: int) -> dict[str, Any]:
    """A row: what opening a dataset and reading its complete listing take."""
    folder.mkdir(parents=True)
    path = write_synthetic(folder, heads)
    first, listing = _measured(path, "open"), _measured(path, "listing")
    shared = sum(dataset_inodes(path))  # no head has files of its own here
    listed = sum(each.stat().st_size for each in (path / "listing").iterdir()) / 2**20
    shutil.rmtree(folder)
    return {
        "heads": heads,
        "open, s": first["seconds"],
        "open, CPU s": first["CPU s"],
        "open, MB": round(first["MB"]),
        "listing, records": listing["count"],
        "listing, s": listing["seconds"],
        "listing, CPU s": listing["CPU s"],
        "listing, MB": round(listing["MB"]),
        "listing, MB on disk": round(listed),
        "shared inodes per head": shared / heads,
    }


def verified(folder: Path, heads: int) -> dict[str, Any]:
    """A row: `verify` of every byte of a dataset whose heads have their files."""
    folder.mkdir(parents=True)
    found = _measured(write_synthetic(folder, heads, present=heads), "verify")
    shutil.rmtree(folder)
    return {
        "heads": heads,
        "verify, s": found["seconds"],
        "heads per second": heads / found["seconds"],
        "MB": round(found["MB"]),
    }


def _measured(path: Path, what: str) -> Mapping[str, Any]:
    command = [sys.executable, "-c", _MEASURE, str(path), what]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SpinMeRoundError(f"{path}: {what}: {done.stderr[-500:]}")
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found
