"""The model's part of a rehearsal: the training, a sampling step and an evaluation at the profile's own size.

It starts from the latents of `tasks.rehearsal.stages`. Networks are initialised as in the profile's training.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, assemble
from spinmeround.tasks.dataset.publish import head_parts
from spinmeround.tasks.heads.encode import publish_latents
from spinmeround.tasks.heads.plan import head_of_id
from spinmeround.tasks.rehearsal.costs import ModelCost, Resources, TrainingForecast
from spinmeround.tasks.rehearsal.subprocess import call_in_process
from spinmeround.tasks.rehearsal.training import rehearse_training

_STEPS = 1
"""Timed steps of the sampler, after one warm-up step."""

_GENERATED = "generated.npz"


def rehearse_model(
    profile: BaseModel, folder: Path, keys: Mapping[str, Mapping[str, str]], devices: int, resources: Resources
) -> Iterator[ModelCost | TrainingForecast]:
    """Train, generate and evaluate on the rehearsed heads; `keys` are the keys of their artifacts by head and stage.

    Raises SpinMeRoundError with the reason if a part fails.
    """
    full: Any = profile
    evaluate = full.evaluate
    yield from rehearse_training(full, _dataset(full, folder, keys, "train"), folder, devices)
    among = min(resources.devices, evaluate.heads)
    (step, rest), peak = call_in_process("generate", generate_a_head, full, folder, keys)
    yield ModelCost(
        part="generate",
        unit="a step of a head's views",
        seconds=step,
        units=evaluate.schedule.steps * evaluate.heads,
        among=among,
        peak_bytes=peak.host,
        device_bytes=peak.device,
    )
    scored, peak = call_in_process("evaluate", score_a_head, full, folder)
    yield ModelCost(
        part="evaluate",
        unit="a head, without the steps",
        seconds=rest + scored,
        units=evaluate.heads,
        among=among,
        peak_bytes=peak.host,
        device_bytes=peak.device,
    )


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
