"""What a rehearsal measures of each part, and how it is extrapolated to the full run.

Heads are divided among workers, one a device, as far as the cores carry them. A training is divided by the groups of a
step, among the processes that `train.launch` starts; the optimiser and the averages are not divided. A cost says in
words what was measured and by which factors it is extrapolated.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.params import TrainParams


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the full run has: workers on devices like the one used here, others, and the cores of its machines.

    `devices` are those that the profile uses, `workers` the processes on them, `cpu_workers` those of the stages
    without a device (0: as many as `workers`).
    """

    workers: int
    cores: int
    devices: int = 1
    cpu_workers: int = 0

    @classmethod
    def of(cls, profile: Any, *, devices: int, cores: int) -> "Resources":
        """Of a profile on this many devices, of which `execution.gpus` may be fewer."""
        chosen = profile.execution.gpus
        limit = devices if chosen is None else chosen if isinstance(chosen, int) else len(set(chosen))
        used = max(1, min(devices, limit))
        return cls(
            workers=used * profile.execution.workers_per_gpu,
            cores=cores,
            devices=used,
            cpu_workers=profile.execution.workers or cores,
        )

    def of_stage(self, *, on_gpu: bool) -> int:
        """Number of workers that make the artifacts of a stage."""
        return self.workers if on_gpu or not self.cpu_workers else self.cpu_workers


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of one stage on the rehearsed heads; `growth` is the factor from a rehearsed head to one of full size.

    `cpu_seconds` is the time that all cores together spent on a head, None where it is unknown.
    """

    stage: str
    seconds: tuple[float, ...]
    peak_bytes: int
    bytes_per_head: float
    growth: float
    cpu_seconds: tuple[float, ...] = ()
    device_bytes: int | None = None
    views: int = 0
    on_gpu: bool = True
    """Whether the workers of this stage have a device each."""
    failed: tuple[str, ...] = ()
    """Heads that failed, each with its reason."""

    @property
    def seconds_per_head(self) -> float:
        """Seconds for a head of full size; without loading if more than one head was rehearsed."""
        return _later(self.seconds) * self.growth

    def hours(self, heads: int, resources: Resources) -> float:
        """Hours for this many heads."""
        return self.seconds_per_head * heads / self.divided(resources) / 3600

    def divided(self, resources: Resources) -> float:
        """How many heads are made in the time that one took here: one a worker, or fewer where all cores are busy."""
        return min(float(resources.of_stage(on_gpu=self.on_gpu)), self._carried(resources.cores))

    def gigabytes(self, heads: int) -> float:
        """Disk space of this many heads, in GB."""
        return self.bytes_per_head * self.growth * heads / 1e9

    def basis(self, heads: int, resources: Resources) -> str:
        """What was measured here, and the factors of the full run."""
        made = len(self.seconds)
        measured = f"{made} head{'s' if made > 1 else ''}"
        if self.growth != 1.0:
            measured += f" of {self.views} views"
        by = "cores" if self._carried(resources.cores) < resources.of_stage(on_gpu=self.on_gpu) else "workers"
        grown = f" x {self.growth:g} for all views" if self.growth != 1.0 else ""
        return f"{measured} measured;{grown} x {heads:,} heads / {self.divided(resources):g} ({by})"

    def _carried(self, cores: int) -> float:
        """Heads at once that keep all cores busy."""
        if not any(self.cpu_seconds):
            return math.inf
        return cores * _later(self.seconds) / _later(self.cpu_seconds)


def _later(values: tuple[float, ...]) -> float:
    """The mean without the first, which includes loading, if there are others."""
    return float(np.mean(values[1:] or values))


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Time and memory of one unit of a part, the number of units in the full run, and the disk space that it takes.

    `among` is the number of processes or workers that the units are divided among. A training also has steps, each of
    which takes `step_seconds` beside its units, in every process.
    """

    part: str
    unit: str
    seconds: float
    units: float
    among: int
    peak_bytes: int
    device_bytes: int | None = None
    disk_bytes: int = 0
    steps: int = 0
    step_seconds: float = 0.0

    @property
    def hours(self) -> float:
        """Hours of the full run."""
        return (self.seconds * self.units / self.among + self.step_seconds * self.steps) / 3600

    @property
    def basis(self) -> str:
        """What was measured here, and the factors of the full run."""
        each = f"{self.unit} measured; x {self.units:,.0f} / {self.among}"
        return f"{each} + {self.step_seconds:.2f} s x {self.steps:,} steps" if self.steps else each


@dataclass(frozen=True, kw_only=True)
class TrainingForecast:
    """The time of a whole training: `divided_s` seconds of groups, shared by its processes, and `fixed_s` of each.

    The number of processes divides `batch`, the greatest common divisor of the numbers of groups in the steps.
    """

    steps: int
    divided_s: float
    fixed_s: float
    batch: int

    @classmethod
    def of(cls, costs: Iterable[ModelCost], train: TrainParams) -> "TrainingForecast":
        """From the costs of the training's parts."""
        parts = list(costs)
        return cls(
            steps=train.steps,
            divided_s=sum(cost.seconds * cost.units for cost in parts),
            fixed_s=sum(cost.step_seconds * cost.steps for cost in parts),
            batch=common_batch(train),
        )

    def hours(self, processes: int) -> float:
        """Hours in this many processes, one a device."""
        return (self.divided_s / processes + self.fixed_s) / 3600

    def most(self, devices: int) -> int:
        """The largest number of processes on this many devices."""
        return max(count for count in self._counts() if count <= devices)

    def needed(self, hours: float) -> int | None:
        """The smallest number of processes that take at most this time; None if no number does."""
        return next((count for count in self._counts() if self.hours(count) <= hours), None)

    def _counts(self) -> list[int]:
        return [count for count in range(1, self.batch + 1) if self.batch % count == 0]


def common_batch(train: TrainParams) -> int:
    """The greatest common divisor of the numbers of groups in the steps of all phases."""
    phases = (phase for phase in train.phases if phase.steps)
    return math.gcd(*(group.batch or train.batch for phase in phases for group in phase.groups))


def training_processes(train: TrainParams, devices: int) -> int:
    """Processes that `train.launch` starts. Raises ConfigError if there are fewer devices, or no equal shares."""
    count, batch = train.launch.total, common_batch(train)
    if count > devices:
        raise ConfigError(
            f"--gpus: expected at least the {count} processes of train.launch, one a device, got {devices}"
        )
    if batch % count:
        raise ConfigError(
            f"train.launch: expected a number of processes that divides the {batch} groups of a step, got {count}"
        )
    return count
