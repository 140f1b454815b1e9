"""The losses of a training, the steps that were not taken, and the measures by which it goes wrong.

A step whose loss or gradient is not finite is not taken. Several such steps in a row, or a loss far above that of
earlier steps, is a reason to return to the last checkpoint; the steps that led there are then avoided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from spinmeround.tasks.training.params import GuardParams

_REFERENCE_WINDOWS = 10
"""Windows before the last, whose means it is compared with. The median of single losses would be far below their mean
where a few noise levels have most of the loss, as in small batches of a model that has learned its data."""


@dataclass(kw_only=True)
class LossHistory:
    """Losses of the steps that were taken, and why others were not; steps are counted from 0."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    avoided: set[int] = field(default_factory=set)
    rollbacks: int = 0

    def take(self, step: int, loss: float) -> None:
        """Record a step that was taken."""
        self.steps.append(step)
        self.losses.append(loss)

    def skip(self, step: int, reason: str) -> None:
        """Record a step that was not taken."""
        self.skipped[step] = reason

    def failure(self, step: int, guard: GuardParams) -> range | None:
        """The steps up to `step`, included, because of which the training went wrong; None if it did not."""
        row = next((n for n in range(step + 1) if step - n not in self.skipped or step - n in self.avoided), step + 1)
        if row >= guard.most_skipped:
            return range(step + 1 - row, step + 1)
        window = guard.window
        if guard.spike == 0 or len(self.losses) < 2 * window or step not in self.steps[-1:]:
            return None
        whole_windows = self.losses[-(min(len(self.losses) // window, _REFERENCE_WINDOWS + 1) * window) :]
        *earlier, recent = np.reshape(whole_windows, (-1, window)).mean(1)
        return range(self.steps[-window], step + 1) if recent > guard.spike * np.median(earlier) else None

    def avoiding(self, failed: range) -> Self:
        """This history, of an earlier checkpoint, for another attempt without the failed steps."""
        return type(self)(
            steps=[*self.steps],
            losses=[*self.losses],
            skipped={**self.skipped, **dict.fromkeys(failed, "avoided after a return to the last checkpoint")},
            avoided=self.avoided | set(failed),
            rollbacks=self.rollbacks + 1,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The losses, for a checkpoint."""
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "loss_steps": torch.tensor(self.steps, dtype=torch.int64),
        }

    def state(self) -> dict[str, Any]:
        """Everything else, as JSON."""
        skipped = {str(step): reason for step, reason in self.skipped.items()}
        return {"skipped": skipped, "avoided": sorted(self.avoided), "rollbacks": self.rollbacks}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Self:
        """The history in a checkpoint."""
        return cls(
            steps=tensors["loss_steps"].tolist(),
            losses=tensors["losses"].tolist(),
            skipped={int(step): str(reason) for step, reason in state["skipped"].items()},
            avoided=set(state["avoided"]),
            rollbacks=int(state["rollbacks"]),
        )


def loss_records(steps: Sequence[int], losses: Sequence[float], every: int, total: int) -> list[dict[str, Any]]:
    """Means over the steps that were taken in each interval of `every` steps; an interval without any has no record."""
    values, positions = np.asarray(losses, np.float64), np.asarray(steps, np.int64)
    records = []
    for start in range(0, total, every):
        inside = values[(positions >= start) & (positions < start + every)]
        if len(inside):
            records.append({"step": min(start + every, total), "loss": float(inside.mean())})
    return records


def first_and_last(losses: Sequence[float]) -> tuple[float, float]:
    """Mean losses over the first and the last tenth of the steps that were taken."""
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
