"""The loss on held-out heads at fixed noise levels, for each kind of group of the phase.

Heads, views and noise are the same at every validation, so that two of them differ by the weights alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.by_phase import phase_batches
from spinmeround.tasks.training.data.batches import GroupBatch
from spinmeround.tasks.training.data.draws import draw_groups
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.state import TrainingState
from spinmeround.tasks.training.step import StepNoise

_SEEDS_PER_KIND = 10_000


class Validation:
    """Losses on the first heads of the split `validation`, or of `test` if that is empty."""

    def __init__(self, data: HeadDataset, params: TrainParams, encode: EncodeParams, processes: Processes) -> None:
        self.params, self.processes = params, processes
        self.heads = (data.split("validation") or data.split("test"))[: params.validation.heads]
        self._groups = self._fixed_groups(data, encode) if self.heads else []

    def __bool__(self) -> bool:
        return bool(self._groups)

    @torch.no_grad()
    def __call__(self, state: TrainingState) -> dict[str, float]:
        """Collective: the mean loss by noise level, as `validation_SIGMA`, and over all levels, as `validation`.

        The weights are those of the average that is the training's result.
        """
        found = {}
        with state.averages.applied(self.params.average.length):
            for sigma in self.params.validation.sigmas:
                means = torch.cat([self._losses(state, number, sigma) for number in range(len(self._groups))])
                found[f"validation_{sigma:g}"] = float(means.mean())
        return {**found, "validation": sum(found.values()) / len(found)}

    def _losses(self, state: TrainingState, number: int, sigma: float) -> Tensor:
        """The losses of the groups of one kind, of all processes."""
        groups = self._groups[number]
        own = state.model(groups, StepNoise.fixed(groups, sigma, seed=number * _SEEDS_PER_KIND)).mean(1)
        return self.processes.gather(own)[: len(self.heads)]

    def _fixed_groups(self, data: HeadDataset, encode: EncodeParams) -> list[GroupBatch]:
        """One batch of each kind of group, with as many groups as held-out heads."""
        white = self.params.model_copy(update={"random_background": 0.0})
        batches, phase = phase_batches(data, self.heads, white, encode), self.params.phase
        found = []
        for number, kind in enumerate(phase.groups):
            alone = phase.model_copy(update={"groups": (kind.model_copy(update={"batch": 0}),)})
            draw = draw_groups(
                alone,
                self.heads,
                batches.cameras_of,
                batch=len(self.heads),
                seed=self.params.draws_seed,
                step=number,
                share=self._share,
            )
            found.append(batches.encoded(batches.read_groups(draw, number)))
        return found

    def _share(self, batch: int) -> Sequence[int]:
        """Equally many groups for each process; the last processes repeat some, whose losses are left out."""
        size = -(-batch // self.processes.count)
        return [index % batch for index in range(self.processes.rank * size, (self.processes.rank + 1) * size)]
