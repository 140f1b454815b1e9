"""The optimiser of a training: AdamW, its groups of weights and its learning rate."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from spinmeround.storage.extras import optional_dependency
from spinmeround.tasks.training.parallel.sharding import divided_like
from spinmeround.tasks.training.params import TrainParams

_NEW_LAYERS = ("norm_3d.", "attn_3d.", "unet.unet.conv_in.", "unet.unet.conv_out.")
"""Parts of the names of the weights that the multiview UNet adds to, or changes in, the network it is grown from."""

_BETAS = (0.9, 0.99)

OPTIMISER = "optimiser."
"""Prefix of the optimiser's tensors in a checkpoint."""


class Schedule(NamedTuple):
    """Learning rate: a linear rise over `warm_up` steps, then half a cosine to `floor` of the peak at step `decay`.

    With `decay` 0 it does not fall. It is independent of the number of steps, so that more of them continue a training.
    """

    peak: float
    warm_up: int
    decay: int
    floor: float

    @classmethod
    def of(cls, params: TrainParams) -> Self:
        """That of a training."""
        return cls(params.learning_rate, params.warm_up_steps, params.phase.decay_steps, params.final_rate)

    def at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        if not self.decay:
            return self.peak
        done = min(1.0, (step - self.warm_up) / max(1, self.decay - self.warm_up))
        share = torch.tensor(done, dtype=torch.float64)
        return self.peak * float(self.floor + (1 - self.floor) * (1 + torch.cos(torch.pi * share)) / 2)


def build_optimiser(trained: Mapping[str, nn.Parameter], params: TrainParams) -> torch.optim.Optimizer:
    """AdamW over the trained weights: torch's fused one, or that of bitsandbytes with moments in 8 bits.

    Raises MissingDependency if bitsandbytes is wanted and not installed.
    """
    groups = weight_groups(trained, params.new_layers_rate)
    options: dict[str, Any] = {"lr": 0.0, "betas": _BETAS, "weight_decay": params.weight_decay}
    if params.optimiser == "adamw":
        return torch.optim.AdamW(groups, fused=True, **options)
    with optional_dependency("train.optimiser: adamw_8bit"):
        from bitsandbytes.optim import AdamW8bit
    found: torch.optim.Optimizer = AdamW8bit(groups, **options)
    return found


def weight_groups(trained: Mapping[str, nn.Parameter], new_layers_rate: float) -> list[dict[str, Any]]:
    """The weights in groups of one `rate`, a factor of the learning rate: 1, and `new_layers_rate` for new layers."""
    if new_layers_rate == 1:
        return [{"params": list(trained.values()), "rate": 1.0}]
    new = {name for name in trained if any(part in name for part in _NEW_LAYERS)}
    found = [
        {"params": [weight for name, weight in trained.items() if (name in new) == chosen], "rate": rate}
        for chosen, rate in ((False, 1.0), (True, new_layers_rate))
    ]
    return [group for group in found if group["params"]]


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate"]


def named_state(optimiser: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """The state of the optimiser, such as its moments, by part and name of the weight."""
    for name, weight in trained.items():
        for part, value in sorted(optimiser.state[weight].items()):
            yield f"{part}.{name}", value if isinstance(value, Tensor) else torch.tensor(value)


def start_state(trained: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer, moments: Any) -> None:
    """Give AdamW its state before the first step: zero steps, and the tensors (first, second) `moments` of zeros."""
    for weight, (first, second) in zip(trained.values(), moments, strict=True):
        optimiser.state[weight] = {"step": torch.tensor(0.0), "exp_avg": first, "exp_avg_sq": second}


def restore_state(
    optimiser: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimiser the state in the tensors of a checkpoint, whatever its parts are."""
    state: dict[int, dict[str, Any]] = {}
    names = {weight: name for name, weight in trained.items()}
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    parts = {name.removeprefix(OPTIMISER).split(".")[0] for name in tensors if name.startswith(OPTIMISER)}
    for index, weight in enumerate(weights):
        stored = {part: tensors.get(f"{OPTIMISER}{part}.{names[weight]}") for part in sorted(parts)}
        state[index] = {part: _as_state(tensor, weight) for part, tensor in stored.items() if tensor is not None}
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _as_state(tensor: Tensor, weight: nn.Parameter) -> Tensor | int:
    """A part of the state: a whole number as such, a tensor of the weight's shape divided as the weight."""
    if tensor.dtype == torch.int64 and tensor.ndim == 0:
        return int(tensor)
    return divided_like(tensor, weight)
