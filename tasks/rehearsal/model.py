"""The model's part of a rehearsal: a training step, a sampling step and an evaluation at the profile's own size.

It starts from the latents of `tasks.rehearsal.stages`. Networks are initialised as in the profile's training. Steps of
one and of two groups are timed, one group at a time, which tells the cost of a group from that of a step (optimiser,
averages). The full training is extrapolated by groups and by their views, so it is an upper bound for a device that
processes several groups at once; groups are divided among devices, what a step costs is not.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, assemble
from spinmeround.tasks.dataset.publish import head_parts
from spinmeround.tasks.heads.encode import publish_latents
from spinmeround.tasks.heads.plan import head_of_id
from spinmeround.tasks.rehearsal.subprocess import call_in_process
from spinmeround.tasks.training.params import SamplesParams, TrainParams, ValidationParams
from spinmeround.tasks.training.params.launch import LaunchParams

_STEPS = 1
"""Timed steps of the sampler, after one warm-up step."""

_GENERATED = "generated.npz"


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Time and memory of one unit of a part, the number of units in the full run, and the disk space that it takes.

    A training also has steps, each of which takes `step_seconds` beside its units, on every device.
    """

    part: str
    unit: str
    seconds: float
    units: float
    peak_bytes: int
    disk_bytes: int = 0
    steps: int = 0
    step_seconds: float = 0.0

    def hours(self, devices: int) -> float:
        """Hours of the full run on this many devices like the one used here."""
        return (self.seconds * self.units / devices + self.step_seconds * self.steps) / 3600

    def devices(self, hours: float) -> int | None:
        """The smallest number of devices that need at most this time; None if no number does."""
        left = 3600 * hours - self.step_seconds * self.steps
        return math.ceil(self.seconds * self.units / left) if left > 0 else None


def rehearse_model(profile: BaseModel, folder: Path, keys: Mapping[str, Mapping[str, str]]) -> Iterator[ModelCost]:
    """Train, generate and evaluate on the rehearsed heads; `keys` are the keys of their artifacts by head and stage.

    Raises SpinMeRoundError with the reason if a part fails.
    """
    full: Any = profile
    train, evaluate = full.train, full.evaluate
    group = train.multi_view.largest
    (seconds, step_seconds), peak = call_in_process("train", train_steps, full, folder, keys)
    pipeline = folder / "training" / "pipeline"
    yield ModelCost(
        part="train",
        unit=f"a group of {group} views",
        seconds=seconds,
        units=equivalent_groups(train),
        steps=train.steps,
        step_seconds=step_seconds,
        peak_bytes=peak,
        disk_bytes=sum(path.stat().st_size for path in pipeline.rglob("*") if path.is_file()),
    )
    (step, rest), peak = call_in_process("generate", generate_a_head, full, folder, keys)
    yield ModelCost(
        part="generate",
        unit="a step of a head's views",
        seconds=step,
        units=evaluate.schedule.steps * evaluate.heads,
        peak_bytes=peak,
    )
    scored, peak = call_in_process("evaluate", score_a_head, full, folder)
    yield ModelCost(
        part="evaluate", unit="a head, without the steps", seconds=rest + scored, units=evaluate.heads, peak_bytes=peak
    )


def equivalent_groups(train: TrainParams) -> float:
    """Number of groups in the full training, in units of the largest of `multi_view`; others count by their views."""
    return sum(phase.steps * phase.views_per_step(train.batch) for phase in train.phases) / train.multi_view.largest


def timed_steps(train: TrainParams, groups: int) -> TrainParams:
    """The last phase with two steps of so many groups of its largest kind, one at a time, without validation and
    samples; the first is a warm-up."""
    largest = max(train.multi_view.groups, key=lambda group: group.views).model_copy(update={"batch": groups})
    phase = train.multi_view.model_copy(update={"steps": 2, "groups": (largest,)})
    alone = {"multi_view": phase, "batch": 1, "micro_batch": 1, "launch": LaunchParams()}
    silent = {"validation": ValidationParams(), "samples": SamplesParams()}
    return train.only("multi-view").model_copy(update={**alone, **silent})


def train_steps(profile: Any, folder: Path, keys: Mapping[str, Mapping[str, str]]) -> tuple[float, float]:
    """Seconds of a group, and of the rest of a step; writes the pipeline to `folder / "training"`."""
    from spinmeround.tasks.training.run import run_training

    dataset, seconds = _dataset(profile, folder, keys, "train"), []
    for groups, out in ((1, folder / "training-1"), (2, folder / "training")):
        ended: list[float] = []
        out.mkdir()
        run_training(
            dataset,
            timed_steps(profile.train, groups),
            profile.encode,
            folder / f"checkpoints-{groups}",
            out,
            lambda step, steps, loss, ended=ended: ended.append(time.perf_counter()),  # type: ignore[misc]
        )
        seconds.append(ended[1] - ended[0])
    return group_and_step(*seconds)


def group_and_step(one: float, two: float) -> tuple[float, float]:
    """Seconds of a group, and of the rest of a step, from those of steps with one and with two groups.

    On a busy machine two groups may take less time than one; then all of it counts as the group's, the larger cost.
    """
    rest = max(2 * one - two, 0.0) if two > one else 0.0
    return one - rest, rest


def generate_a_head(profile: Any, folder: Path, keys: Mapping[str, Mapping[str, str]]) -> tuple[float, float]:
    """Seconds of one sampling step of a head's views, and of the rest of its generation; writes its pictures."""
    from spinmeround.tasks.evaluation.model import predict_views
    from spinmeround.tasks.evaluation.views import choose_views
    from spinmeround.tasks.generation.run import load_pipeline

    data = HeadDataset.open(_dataset(profile, folder, keys, "test"))
    model = load_pipeline(folder / "training" / "pipeline")
    views = choose_views(data, profile.evaluate, profile.embed.frontal)[0]
    schedule = profile.evaluate.schedule.model_copy(update={"steps": 1 + _STEPS})
    ended: list[float] = []
    began = time.perf_counter()
    params = profile.evaluate.model_copy(update={"schedule": schedule})
    made = predict_views(model, data, views, params, lambda done, steps: ended.append(time.perf_counter()))
    took = time.perf_counter() - began
    batches = len(ended) / schedule.steps  # each ends once a step; the first step is a warm-up
    step = batches * (ended[-1] - ended[0]) / (len(ended) - 1)
    np.savez(folder / _GENERATED, **{name: each for name, each in asdict(made).items() if each is not None})
    return step, max(took - schedule.steps * step, 0.0)


def score_a_head(profile: Any, folder: Path) -> float:
    """Seconds of scoring the pictures that `generate_a_head` wrote."""
    from spinmeround.tasks.evaluation.evaluator import Evaluator
    from spinmeround.tasks.evaluation.prediction import Prediction
    from spinmeround.tasks.evaluation.views import choose_views
    from spinmeround.tasks.loading.view_images import read_views

    data = HeadDataset.open(folder / "test.zarr")
    views = choose_views(data, profile.evaluate, profile.embed.frontal)[0]
    made = Prediction(**np.load(folder / _GENERATED))
    began = time.perf_counter()
    evaluator = Evaluator(data, profile.embed, profile.evaluate.lpips_weights)
    evaluator(views, made, read_views(data, views.subject, views.targets))
    return time.perf_counter() - began


def _dataset(profile: Any, folder: Path, keys: Mapping[str, Mapping[str, str]], split: str) -> Path:
    """A dataset of the rehearsed heads with their latents, all in one split."""
    store = ArtifactStore(folder)
    cameras = profile.views.cameras()
    heads = [head_parts(store, head_of_id(id), stages, cameras) for id, stages in keys.items()]
    attributes = {
        "generator": profile.generator.model_dump(mode="json"),
        "split": {"validation": 0.0, "test": 1.0 - 1e-9 if split == "test" else 0.0},
    }
    path = assemble(folder / f"{split}.zarr", heads, attributes).path
    publish_latents(
        path, {id: store.verify("encode", stages["encode"]).path for id, stages in keys.items()}, profile.encode
    )
    return path
