"""Train the multiview model that ships, by the trainer's own phases, on heads straight from the generator.

The heads, the store and the checkpoints are in a working folder, so an interrupted training continues. `run_multiview`
writes a pipeline in half precision; it measures the validation loss alone, `spinmeround bench embedded` the rest.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.embedded.heads import make_heads_dataset
from spinmeround.tasks.embedded.params import MultiviewParams
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.chain.plan import plan_trainings
from spinmeround.tasks.training.params import TrainingResult


def run_multiview(params: MultiviewParams, folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Make the heads and train the phases in `params.work`; writes `folder / "multiview"` in half precision."""
    encode = EncodeParams()
    dataset = make_heads_dataset(params.heads, encode, params.work / "heads", report).path
    result = train_phases(dataset, params, encode, report)
    assert result.pipeline is not None, "the last phase trains a network of several views"
    write_halved(result.pipeline, folder / "multiview")
    return {"loss_first": result.loss_first or 0.0, "loss_last": result.loss_last or 0.0}


def train_phases(
    dataset: Path, params: MultiviewParams, encode: EncodeParams, report: Callable[[str], None]
) -> TrainingResult:
    """Train the phases on a dataset with latents, each beginning with the result of the one before."""
    store = ArtifactStore(params.work / "store")
    planned = plan_trainings(HeadDataset.open(dataset), params.train, encode)
    results = [
        make_training(
            store,
            dataset,
            phase.params,
            encode,
            params.work / "checkpoints",
            _reporting(phase.name, params.train.record_every, report),
            begins=phase.begins,
        )[2]
        for phase in planned
    ]
    return results[-1]


def write_halved(pipeline: Path, folder: Path) -> None:
    """Write a pipeline in half precision, in place of what is in the folder."""
    loaded: Any = load_pipeline(pipeline).to(torch.float16)
    shutil.rmtree(folder, ignore_errors=True)
    loaded.save_pretrained(folder)
    for path in folder.rglob("*.json"):  # diffusers writes where the weights were read from
        values = {name: value for name, value in json.loads(path.read_bytes()).items() if name != "_name_or_path"}
        path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _reporting(phase: str, every: int, report: Callable[[str], None]) -> Callable[[int, int, float | None], None]:
    def on_step(done: int, steps: int, loss: float | None) -> None:
        if done % every == 0 or done == steps:
            shown = "skipped" if loss is None else f"loss {loss:.4f}"
            report(f"{phase}: step {done} of {steps}, {shown}")

    return on_step
