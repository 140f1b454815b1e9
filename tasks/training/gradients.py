"""The gradients of a step: of the mean loss over its whole batch, added up part by part and averaged over processes.

All functions are collective, and leave the gradients in the weights.
"""

import math

import torch
from torch import Tensor

from spinmeround.tasks.training.data.batches import GroupBatch
from spinmeround.tasks.training.state import NotFinite, TrainingState
from spinmeround.tasks.training.step import StepLosses, StepNoise


def finite_gradients(state: TrainingState, groups: GroupBatch, step: int) -> tuple[StepLosses, Tensor]:
    """The losses of the whole batch and the norm of its gradients.

    In float16, gradients that overflow are computed again at a smaller scale. Raises NotFinite for a loss.
    """
    while True:
        losses = backward(state, groups, step)
        if not math.isfinite(value := float(losses.per_half.mean())):
            raise NotFinite(f"expected a finite loss, found {value}")
        norm = state.gradient_norm()
        if bool(norm.isfinite()) or not state.lower_scale():
            return losses, norm


def backward(state: TrainingState, groups: GroupBatch, step: int) -> StepLosses:
    """Add up the gradients of the parts of a batch, this process's share of it; returns the losses of all processes."""
    params, processes = state.params, state.processes
    parts, found = list(groups.parts(params.micro_batch or len(groups.heads))), []
    for number, part in enumerate(parts, 1):
        noise = StepNoise.drawn(part, step, params)
        with processes.accumulating(state.model, last=number == len(parts)):
            per_half = state.model(part, noise)
            processes.backward(per_half.mean(1).sum() / groups.batch)
        has_normals = torch.ones(len(part.heads)) if part.has_normals is None else part.has_normals
        columns = (noise.sigma.to(per_half)[:, None], has_normals.to(per_half)[:, None])
        found.append(torch.cat([per_half.detach(), *columns], dim=1))
    losses = processes.gather(torch.cat(found))
    return StepLosses(per_half=losses[:, :-2], sigma=losses[:, -2], has_normals=losses[:, -1] > 0)
