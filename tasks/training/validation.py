"""The loss on held-out heads at fixed noise levels, for each kind of group of the phase.

Heads, views and noise are the same at every validation, so that two of them differ by the weights alone.
"""

from collections.abc import Sequence

import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.batches import GroupBatch, draw_groups
from spinmeround.tasks.training.by_phase import phase_batches
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.step import GroupLoss


class Validation:
    """Losses on the first heads of the split `validation`, or of `test` if that is empty."""

    def __init__(self, data: HeadDataset, params: TrainParams, encode: EncodeParams) -> None:
        self.params, self.sigmas = params, params.validation.sigmas
        held_out = (data.split("validation") or data.split("test"))[: params.validation.heads]
        self._groups = _fixed_groups(data, held_out, params, encode) if held_out else []

    def __bool__(self) -> bool:
        return bool(self._groups)

    @torch.no_grad()
    def __call__(self, loss: GroupLoss) -> dict[str, float]:
        """The mean loss by noise level, as `validation_SIGMA`, and over all levels, as `validation`."""
        found = {}
        for sigma in self.sigmas:
            means = []
            for number, groups in enumerate(self._groups):
                generator = torch.Generator().manual_seed(number)
                noise = torch.randn(groups.latents.shape, generator=generator)
                means += loss.at(groups, torch.full((len(groups.heads),), sigma), noise).per_half.mean(1).tolist()
            found[f"validation_{sigma:g}"] = sum(means) / len(means)
        return {**found, "validation": sum(found.values()) / len(found)}


def _fixed_groups(
    data: HeadDataset, held_out: Sequence[int], params: TrainParams, encode: EncodeParams
) -> list[GroupBatch]:
    """One batch of each kind of group, as many groups as held-out heads."""
    white = params.model_copy(update={"random_background": 0.0})
    batches = phase_batches(data, held_out, white, encode)
    found = []
    for number, kind in enumerate(params.phase.groups):
        alone = params.phase.model_copy(update={"groups": (kind.model_copy(update={"batch": 0}),)})
        draw = draw_groups(alone, held_out, batches.cameras, batch=len(held_out), seed=params.draws_seed, step=number)
        found.append(batches.read_groups(draw, number))
    return found
