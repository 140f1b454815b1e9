"""The state of a training: the networks, their optimiser and the averages of their weights.

`TrainingState` converts to named tensors and back without loss, so a training that resumes from a checkpoint computes
the same numbers as one that was not interrupted. The tensors are whole, whatever the number of processes.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spinmeround.storage.errors import SpinMeRoundError, environment_errors
from spinmeround.tasks.training.by_phase import phase_loss
from spinmeround.tasks.training.model.networks import STATISTICS, Networks
from spinmeround.tasks.training.optimisation.averages import AVERAGE, PowerAverages
from spinmeround.tasks.training.optimisation.optimiser import (
    OPTIMISER,
    build_optimiser,
    named_state,
    restore_state,
    set_learning_rate,
    start_state,
)
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.parallel.sharding import divided_like, local, whole
from spinmeround.tasks.training.params import TrainParams


class NotFinite(SpinMeRoundError):
    """A loss or gradient that is not finite; the step is not taken."""


class TrainingState:
    """The networks of a training with their loss `model`, AdamW and the averages of the weights.

    With a folder `disk`, the moments and the averages are in a mapped file there, so everything but the weights and
    their gradients may exceed the memory; the results are identical. Raises StorageUnavailable if the disk is full.
    """

    def __init__(self, networks: Networks, params: TrainParams, processes: Processes, disk: Path | None = None) -> None:
        self.networks, self.params, self.processes = networks, params, processes
        if params.gradient_checkpointing:
            networks.unet.train()
            networks.unet.enable_gradient_checkpointing()
        if params.channels_last:
            networks.unet.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
        if params.compile:
            networks.unet.compile_repeated_blocks()  # type: ignore[no-untyped-call]
        self.model = processes.prepared(phase_loss(networks, params))
        self.trained = networks.trained()  # after the preparation, which replaces weights that it divides
        self.optimiser = build_optimiser(self.trained, params)
        self.scaler: torch.amp.GradScaler | None = processes.accelerator.scaler
        room = []
        if disk is not None:
            weights, lengths = list(self.trained.values()), params.average.tracked
            *room, first, second = (_mapped_like(weights, disk / "state.tmp") for _ in (*lengths, 1, 2))
            start_state(self.trained, self.optimiser, zip(first, second, strict=True))
        self.averages = PowerAverages(self.trained, params.average.tracked, room)

    def gradient_norm(self) -> Tensor:
        """The norm of the gradients of a step; removes the scale of the loss from them."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimiser)
        gradients = [weight.grad for weight in self.trained.values() if weight.grad is not None]
        return whole(nn.utils.get_total_norm(gradients))

    def lower_scale(self) -> bool:
        """Lower the scale of the loss after gradients that overflowed, and forget them; False if that is no remedy."""
        if self.scaler is None:
            return False
        scale = self.scaler.get_scale()
        self.scaler.update(max(1.0, scale * self.scaler.get_backoff_factor()))
        if scale > 1:
            self.clear_gradients()
        return scale > 1

    def update(self, learning_rate: float, norm: Tensor) -> None:
        """Take one optimiser step with the current gradients of this norm, clipped, then clear them.

        Raises NotFinite, and takes no step, if their norm is not finite.
        """
        if not bool(norm.isfinite()):
            raise NotFinite(f"expected finite gradients, found {self._not_finite()}")
        set_learning_rate(self.optimiser, learning_rate)
        nn.utils.clip_grads_with_norm_(self.trained.values(), self.params.gradient_limit, norm)
        if self.scaler is None:
            self.optimiser.step()
        else:
            self.scaler.step(self.optimiser)
            self.scaler.update()
        self.clear_gradients()
        self.averages.update()

    def clear_gradients(self) -> None:
        """Forget the current gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def _not_finite(self) -> str:
        """The parameters whose gradients are not finite."""
        graded = ((name, weight.grad) for name, weight in self.trained.items() if weight.grad is not None)
        names = [name for name, gradient in graded if not bool(local(gradient).isfinite().all())]
        return f"{len(names)} that are not, the first of {names[0]}" if names else "a norm beyond the range of float32"

    def averaged(self, build: Callable[[], Networks]) -> Networks:
        """Collective: the networks with the average of the training's result as weights, whole in every process.

        `build` makes the networks before the first step, for the frozen weights of divided ones.
        """
        if not self.processes.sharded:
            self.averages.apply(self.params.average.length)
            return self.networks
        average = {name: whole(tensor).cpu() for name, tensor in self.averages.of(self.params.average.length).items()}
        networks = build()
        networks.load_state_dict({**networks.state_dict(), **average})
        for name, buffer in networks.statistics().items():
            buffer.copy_(self.networks.statistics()[name])
        return networks

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Collective: every tensor that the next step depends on, whole. The next step may change it."""
        for name, tensor in self._named():
            yield name, whole(tensor.detach())

    def numbers(self) -> dict[str, Any]:
        """Everything else that the next step depends on, as JSON."""
        return {"scaler": self.scaler.state_dict()} if self.scaler is not None else {}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], steps: int) -> None:
        """Restore a training after `steps` steps. Raises ValueError if names or shapes of the tensors differ."""
        if not self.optimiser.state:
            restore_state(self.optimiser, self.trained, tensors)
        current = dict(self._named())
        shapes = {name: tuple(tensor.shape) for name, tensor in current.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
            raise ValueError(
                "checkpoint: expected the tensors of these networks, found other names or shapes; train into a new "
                "folder"
            )
        with torch.no_grad():
            for name, tensor in current.items():
                local(tensor).copy_(local(divided_like(tensors[name], tensor)))
        self.averages.steps = steps
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(numbers["scaler"]))

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, buffer in self.networks.statistics().items():
            yield f"{STATISTICS}{name}", buffer
        for name, weight in self.trained.items():
            yield f"weights.{name}", weight
        for name, average in self.averages.named():
            yield f"{AVERAGE}{name}", average
        for name, part in named_state(self.optimiser, self.trained):
            yield f"{OPTIMISER}{name}", part


def _mapped_like(tensors: Sequence[Tensor], path: Path) -> list[Tensor]:
    """Zeros of these shapes in a mapped file. It is unlinked, so it is freed with the tensors, even after a kill."""
    sizes = [tensor.numel() for tensor in tensors]
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("xb") as file:  # allocate now: if the mapping runs out of disk later, the process is killed
            os.posix_fallocate(file.fileno(), 0, 4 * sum(sizes))
        flat = torch.from_file(str(path), shared=True, size=sum(sizes), dtype=torch.float32)
        path.unlink()
    return [part.view_as(tensor) for part, tensor in zip(torch.split(flat, sizes), tensors, strict=True)]
