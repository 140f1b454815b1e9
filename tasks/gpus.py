"""The GPUs that this process may use, found without torch, which takes seconds to import."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable by which CUDA limits a process to some GPUs: their numbers or UUIDs, separated by commas."""
ORDER, PCI_ORDER = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
"""The variable and the value with which CUDA numbers GPUs as nvidia-smi does."""
_TIMEOUT_S = 30.0
_GPU = re.compile(r"^GPU (\d+):.*\(UUID: (\S+)\)$")
_INSTANCE = re.compile(r"^\s+MIG .*\(UUID: (\S+)\)$")


def visible_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs of this machine that a process with this environment may use, as `VISIBLE` names them.

    A GPU that is divided into instances (MIG) counts as these. As CUDA does, takes no more of `VISIBLE` than what
    precedes the first GPU that does not exist.
    """
    listed = _listed()
    if (limit := environment.get(VISIBLE)) is None:
        return tuple(names[0] for names in listed)
    known = {name for names in listed for name in names}
    chosen = []
    for name in (part.strip() for part in limit.split(",")):
        if not any(name == each or (len(name) > 4 and each.startswith(name)) for each in known):
            break
        chosen.append(name)
    return tuple(chosen)


def nvidia_smi(*arguments: str) -> str | None:
    """The output of nvidia-smi; None on a machine without it, or if it fails."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=_TIMEOUT_S).stdout
    return None


def _listed() -> Sequence[tuple[str, ...]]:
    """All GPUs and instances, each by its names; without nvidia-smi, the devices of the driver by number."""
    if (text := nvidia_smi("-L")) is None:
        devices = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
        return [(str(number),) for number in range(len(devices))]
    found: list[tuple[str, ...]] = []
    divided = False
    for line in text.splitlines():
        if match := _GPU.match(line):
            divided = False
            found.append((match[1], match[2]))
        elif match := _INSTANCE.match(line):
            if not divided:
                found.pop()
            divided = True
            found.append((match[1],))
    return found
