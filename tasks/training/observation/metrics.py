"""What a training measures while it runs: `metrics.jsonl`, one JSON object per line, and what trackers show of it.

A record has the means over the steps since the last one:

    step                 number of steps done
    loss                 and loss_image, loss_normals of the halves (`adapt` and models without normals have the first
                         alone; heads without normals do not count in the second), loss_sigma_LOW_HIGH by noise level
    gradient_norm        before clipping
    learning_rate        of the last step
    samples_per_second   groups; data_wait is the share of the time that the step waited for its batch
    mfu                  share of the device's rate, as `tasks.training.observation.utilisation` has it
    memory_mb            peak of the device's allocator so far, or the memory that this process has on a CPU
    average_distance     norm of the result's average minus the weights, as a share of the norm of the weights
    skipped              steps that were not taken
    validation_SIGMA     loss on held-out heads at fixed noise levels, in the records of validations

The file is only appended to. Beside it are the sheets of `tasks.training.observation.samples`. A training that resumes
from a checkpoint first removes the records and sheets after it.
"""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from spinmeround.storage.errors import environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.pictures.contact_sheet import save_contact_sheet
from spinmeround.tasks.training.observation.trackers import Tracker
from spinmeround.tasks.training.observation.utilisation import Utilisation
from spinmeround.tasks.training.optimisation.snapshots import remove_later
from spinmeround.tasks.training.params import METRICS, SAMPLES
from spinmeround.tasks.training.step import StepLosses

SIGMA_EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, math.inf)
_HALVES = ("loss_image", "loss_normals")


class MetricsLog:
    """Appends records to `metrics.jsonl` in a folder, and passes them to trackers, which `start` starts at a step."""

    def __init__(self, folder: Path, start: Callable[[int], Sequence[Tracker]] = lambda done: ()) -> None:
        self.path, self._start = folder / METRICS, start
        self._trackers: Sequence[Tracker] = ()

    def resume(self, done: int) -> None:
        """Remove records and sheets of later steps than `done`, and damaged lines or those not written to their end."""
        if self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith(b"\n") and _step(line) <= done]
            if kept != lines:
                write_atomic(self.path, b"".join(kept))
        remove_later(self.path.parent / SAMPLES, done)
        self.finish()
        self._trackers = self._start(done)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record. Raises StorageUnavailable if the disk is full."""
        line = json_text(dict(record), "train: metrics", indent=None) + "\n"
        with environment_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        values = {name: value for name, value in record.items() if name != "step"}
        for tracker in self._trackers:
            tracker.log(values, step=record["step"])

    def write_sheet(self, sheet: Image.Image, step: int) -> None:
        """Write the contact sheet of a step. Raises StorageUnavailable if the disk is full."""
        save_contact_sheet(self.path.parent / SAMPLES / f"step-{step:09d}.webp", sheet)
        for tracker in self._trackers:
            tracker.log_picture(SAMPLES, sheet, step=step)

    def finish(self) -> None:
        """End the trackers."""
        for tracker in self._trackers:
            tracker.finish()
        self._trackers = ()


def _step(line: bytes) -> float:
    """The step of a record; infinite for a line that is none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
    return float(step) if isinstance(step, int) else math.inf


class Meter:
    """Accumulates the measures of steps into one record."""

    def __init__(self, device: torch.device, utilisation: Utilisation | None = None) -> None:
        self._device, self._utilisation = device, utilisation
        self.reset()

    def reset(self) -> None:
        """Begin a new record."""
        self._losses: list[StepLosses] = []
        self._norms: list[float] = []
        self._groups: Counter[int] = Counter()
        self.waited, self._skipped, self._began = 0.0, 0, time.perf_counter()

    def wait(self, seconds: float) -> None:
        """Count time that a step waited for its batch."""
        self.waited += seconds

    def leave_out(self, seconds: float) -> None:
        """Do not count time that no step took."""
        self._began += seconds

    def add(self, losses: StepLosses, gradient_norm: float, *, views: int) -> None:
        """Count a step that was taken, on groups of so many views."""
        self._losses.append(losses)
        self._norms.append(gradient_norm)
        self._groups[views] += len(losses.sigma)

    def skip(self) -> None:
        """Count a step that was not taken."""
        self._skipped += 1

    def record(self, step: int, learning_rate: float) -> dict[str, Any]:
        """The means since `reset`; no losses if no step was taken."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        found: dict[str, Any] = {
            "step": step,
            "learning_rate": learning_rate,
            "samples_per_second": self._groups.total() / seconds,
            "data_wait": self.waited / seconds,
            "memory_mb": self._memory_mb(),
            "skipped": self._skipped,
        }
        if self._utilisation is not None:
            found["mfu"] = self._utilisation.share(self._groups, seconds)
        if self._losses:
            found["gradient_norm"] = float(np.mean(self._norms))
            found |= self._means()
        return found

    def _means(self) -> dict[str, float]:
        steps = [float(each.per_half.mean()) for each in self._losses]
        halves = self._halves()
        per_sample, sigma = (
            torch.cat(parts)
            for parts in zip(*[(each.per_half.mean(1), each.sigma) for each in self._losses], strict=True)
        )
        found = {"loss": float(np.mean(steps)), **halves}
        for low, high in itertools.pairwise(SIGMA_EDGES):
            inside = per_sample[(sigma >= low) & (sigma < high)]
            if len(inside):
                found[f"loss_sigma_{low:g}_{high:g}"] = float(inside.mean())
        return found

    def _halves(self) -> dict[str, float]:
        """The mean loss of each half, of the normals over the groups that have any."""
        having = torch.cat([each.having_normals for each in self._losses])
        image, *normals = torch.cat([each.per_half for each in self._losses]).unbind(1)
        found = [image, *(half[having] for half in normals)]
        return {name: float(half.mean()) for name, half in zip(_HALVES, found, strict=False) if len(half)}

    def _memory_mb(self) -> float:
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device)) / 2**20
        return float(psutil.Process().memory_info().rss) / 2**20
