"""The heads of an evaluation, divided over worker processes.

Each worker loads the model once and scores its share of the heads that the store lacks; their results are artifacts, so
the table is made of the same bytes whoever made them. Every worker computes in one thread: the order of a sum over
threads changes its last digits.
"""

from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.run import open_evaluation

WORKING_BYTES = 1 << 30
"""Memory that a worker needs beside its networks and as much again."""


def divide_heads(store: ArtifactStore, dataset: Path, evaluated: Evaluated, workers: int) -> list[list[int]]:
    """The numbers of the heads, in the order of `choose_views`, that each of at most `workers` workers scores.

    Only heads that the store lacks are divided. There are no more workers than GPUs, or than have room in memory.
    """
    opened = open_evaluation(store, dataset, evaluated)
    missing = [number for number, views in enumerate(opened.chosen) if not opened.scorer.has(views)]
    count = min(workers, len(missing), worker_limit(evaluated.pipeline))
    return [missing[first::count] for first in range(count)]


def worker_limit(pipeline: Path) -> int:
    """How many workers can load a pipeline: one a GPU, else as many as fit into memory, at least one."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    weights = sum(file.stat().st_size for file in pipeline.rglob("*.safetensors"))
    return max(1, int(psutil.virtual_memory().available // (2 * weights + WORKING_BYTES)))


def score_heads(
    store: ArtifactStore,
    dataset: Path,
    evaluated: Evaluated,
    numbers: list[int],
    worker: int,
    on_head: Callable[[], None] = lambda: None,
) -> None:
    """Predict and score the heads with these numbers; `on_head` is called after each. `worker` chooses the GPU.

    Raises ConfigError as `run_evaluation`.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(worker % torch.cuda.device_count())
    opened = open_evaluation(store, dataset, evaluated)
    for number in numbers:
        opened.scorer(opened.chosen[number])
        on_head()
