"""The training of a rehearsal: steps at the profile's own size, with the groups of its own forward pass at once.

The second of two steps is timed, its batch read and encoded within it. A step of half the groups tells the cost of a
group from that of a step (optimiser, averages). A step on random colours, all of whose groups are encoded again, has
the cost of that. The full training is extrapolated by groups, smaller ones by their views.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.rehearsal.costs import ModelCost, TrainingForecast, training_processes
from spinmeround.tasks.rehearsal.subprocess import call_in_process
from spinmeround.tasks.training.params import SamplesParams, TrainParams, ValidationParams
from spinmeround.tasks.training.params.launch import LaunchParams
from spinmeround.tasks.training.params.phases import GroupParams


def rehearse_training(
    profile: Any, dataset: Path, folder: Path, devices: int
) -> Iterator[ModelCost | TrainingForecast]:
    """Train on a dataset in both ways; leaves the pipeline of a plain training in `folder / "training"`.

    Raises SpinMeRoundError with the reason if a training fails.
    """
    train: TrainParams = profile.train
    processes = training_processes(train, devices)
    views, at_once = train.multi_view.largest, groups_at_once(train)
    unit = f"{at_once} group{'s' if at_once > 1 else ''} of {views} views at once"
    try:
        costs = list(_costs(profile, dataset, folder, unit, processes))
    except SpinMeRoundError as error:
        if at_once == 1:
            raise
        advice = "a smaller train.micro_batch, or train.gradient_checkpointing, needs less memory"
        raise SpinMeRoundError(f"{error} ({unit}; {advice})") from error
    yield from costs
    yield TrainingForecast.of(costs, train)


def _costs(profile: Any, dataset: Path, folder: Path, unit: str, processes: int) -> Iterator[ModelCost]:
    train: TrainParams = profile.train
    larger, out = groups_of_step(train), folder / "training"
    smaller = max(larger // 2, 1)
    (less, most), peak = call_in_process("train", _time_plain, profile, dataset, out, (smaller, larger))
    group, step = group_and_step(less, most, smaller, larger)
    yield ModelCost(
        part="train",
        unit=unit,
        seconds=group,
        units=equivalent_groups(train),
        among=processes,
        steps=train.steps,
        step_seconds=step,
        peak_bytes=peak.host,
        device_bytes=peak.device,
        disk_bytes=sum(path.stat().st_size for path in (out / "pipeline").rglob("*") if path.is_file()),
    )
    if not (recoloured := recoloured_groups(train)):
        return
    at_once = groups_at_once(train)
    whole, peak = call_in_process("recolour", _time_recoloured, profile, dataset, folder / "recoloured", at_once)
    yield ModelCost(
        part="recolour",
        unit=f"{unit}, all encoded again",
        seconds=max(whole - step - at_once * group, 0.0) / at_once,
        units=recoloured,
        among=processes,
        peak_bytes=peak.host,
        device_bytes=peak.device,
    )


def equivalent_groups(train: TrainParams) -> float:
    """Number of groups in the full training, in units of the largest of `multi_view`; others count by their views."""
    return sum(phase.steps * phase.views_per_step(train.batch) for phase in train.phases) / train.multi_view.largest


def recoloured_groups(train: TrainParams) -> float:
    """Those of them that get a random background; pictures of faces from outside of the dataset don't."""
    outside = train.adapt.faces.folder is not None
    return train.random_background * equivalent_groups(train.only("single-view", "multi-view") if outside else train)


def groups_at_once(train: TrainParams) -> int:
    """Groups of the largest kind in a forward pass of one process."""
    share = max((_largest(train).batch or train.batch) // train.launch.total, 1)
    return min(train.micro_batch or share, share)


def groups_of_step(train: TrainParams) -> int:
    """Groups of the larger of the timed steps: two forward passes, whose gradients are added up, if a step has them."""
    share, at_once = (_largest(train).batch or train.batch) // train.launch.total, groups_at_once(train)
    return 2 * at_once if share > at_once else at_once


def _largest(train: TrainParams) -> GroupParams:
    return max(train.multi_view.groups, key=lambda group: group.views)


def timed_steps(train: TrainParams, groups: int, *, recoloured: bool = False) -> TrainParams:
    """The last phase with two steps of so many groups of its largest kind, all of them recoloured or none, without
    validation and samples; the first step is a warm-up. Each makes its own batch, so that its time counts."""
    largest = _largest(train).model_copy(update={"batch": groups})
    phase = train.multi_view.model_copy(update={"steps": 2, "groups": (largest,)})
    alone = {"multi_view": phase, "batch": groups, "micro_batch": groups_at_once(train), "launch": LaunchParams()}
    silent = {"validation": ValidationParams(), "samples": SamplesParams()}
    batches = {"random_background": float(recoloured), "prefetch": 0, "workers": 0}
    return train.only("multi-view").model_copy(update={**alone, **silent, **batches})


def group_and_step(less: float, most: float, smaller: int = 1, larger: int = 2) -> tuple[float, float]:
    """Seconds of a group, and of the rest of a step, from those of steps of a smaller and a larger number of groups.

    On a busy machine the larger may take less time; then all of it counts as the groups', the larger cost. So it does
    where a step has only one.
    """
    ratio = larger / smaller
    rest = max(ratio * less - most, 0.0) / (ratio - 1) if most > less else 0.0
    return (less - rest) / smaller, rest


def _time_plain(profile: Any, dataset: Path, out: Path, groups: tuple[int, int]) -> list[float]:
    """Seconds of steps of so many groups; leaves the result of the last."""
    seconds = []
    for number in dict.fromkeys(groups):
        if out.exists():
            shutil.rmtree(out)
        seconds.append(_time_step(profile, dataset, out, timed_steps(profile.train, number)))
    return [seconds[0], seconds[-1]]


def _time_recoloured(profile: Any, dataset: Path, out: Path, groups: int) -> float:
    """Seconds of a step whose groups are all recoloured; leaves nothing."""
    seconds = _time_step(profile, dataset, out, timed_steps(profile.train, groups, recoloured=True))
    shutil.rmtree(out)
    return seconds


def _time_step(profile: Any, dataset: Path, out: Path, params: TrainParams) -> float:
    from spinmeround.tasks.training.run import run_training

    ended: list[float] = []
    checkpoints = out.with_name(f"{out.name}-checkpoints")
    out.mkdir()
    run_training(
        dataset,
        params,
        profile.encode,
        checkpoints,
        out,
        lambda step, steps, loss: ended.append(time.perf_counter()),
    )
    shutil.rmtree(checkpoints)
    return ended[1] - ended[0]
