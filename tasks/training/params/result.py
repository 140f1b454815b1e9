"""The result of a training as a plain value, so that a cached one is found without torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
"""File with the metrics of a training, beside its checkpoints and in its result."""

SAMPLES = "samples"
"""Folder with the contact sheets of a training, `step-NNNNNNNNN.webp`, beside its metrics."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Result of a training; `history` holds {"step", "loss"} records in order, `skipped` the reason of each step that
    was not taken. Without steps there are no losses.

    `pipeline` is the folder of the trained pipeline; `adapt` has none, but a UNet and a text encoder.
    """

    steps: int
    loss_first: float | None
    loss_last: float | None
    history: list[dict[str, Any]]
    pipeline: Path | None
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """Steps and losses in words."""
        losses = "" if self.loss_first is None else f", loss {self.loss_first:.4f} to {self.loss_last:.4f}"
        return f"{self.steps} steps{losses}"


def load_training(folder: Path) -> TrainingResult:
    """Reads the result of a training from its artifact's folder."""
    summary = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))["runs"][0]["history"]
    pipeline = folder / "pipeline"
    return TrainingResult(**summary, history=history, pipeline=pipeline if pipeline.is_dir() else None)
