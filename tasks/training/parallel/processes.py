"""The processes of a training, by Hugging Face accelerate.

Without a launcher there is one. `accelerate launch`, torchrun and Slurm start several, and tell each its number through
the environment. All take the same steps from the same state; each computes a share of every batch, and gradients are
averaged. The first one alone writes files. All processes must call a method that is marked *collective*.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from spinmeround.models.device import best_device, instruction_set
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.model.precision import accelerate_precision, set_precision
from spinmeround.tasks.training.parallel.sharding import shard
from spinmeround.tasks.training.params import TrainParams


class Processes:
    """This process among those of a training: its device, its number `rank` and their `count`."""

    def __init__(self, params: TrainParams) -> None:
        AcceleratorState._reset_state()  # an earlier training of this process may have had another precision
        self.params = params
        self.accelerator = Accelerator(
            cpu=best_device().type == "cpu", mixed_precision=accelerate_precision(params.precision)
        )
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.is_first: bool = self.accelerator.is_main_process
        self.device: torch.device = self.accelerator.device
        set_precision(params.precision, self.device)
        self._check_count()
        self._check_batches()

    def _check_count(self) -> None:
        launch = self.params.launch
        if launch.launcher != "none" and self.count != launch.total:
            raise ConfigError(
                f"train.launch: expected {launch.total} processes of {launch.launcher}, found {self.count}; start them "
                "by the command that is printed"
            )

    def _check_batches(self) -> None:
        batches = {group.batch or self.params.batch for group in self.params.phase.groups}
        if wrong := [batch for batch in sorted(batches) if batch % self.count]:
            raise ConfigError(
                f"train.batch: expected a multiple of the {self.count} processes, got {wrong[0]}; change the batch or "
                "the number of processes"
            )

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the weights."""
        return self.params.sharding == "fsdp2" and self.count > 1

    def share(self, batch: int) -> range:
        """The groups of a batch that this process computes: of equal numbers, in the order of the processes."""
        size = batch // self.count
        return range(self.rank * size, (self.rank + 1) * size)

    def prepared(self, model: nn.Module) -> nn.Module:
        """The model on the device, in the training's precision, its gradients averaged over the processes."""
        if self.sharded:
            shard(model.to(self.device), self.device, self.count)
        return cast(nn.Module, self.accelerator.prepare_model(model, evaluation_mode=self.sharded))

    @contextmanager
    def accumulating(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        """Gradients inside the block are added up in this process; those of the `last` part are averaged over all."""
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(last)
        apart = not last and not isinstance(model, FSDPModule)
        with cast(AbstractContextManager[Any], self.accelerator.no_sync(model) if apart else nullcontext()):
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this process's part of the loss, a sum over groups divided by those of the whole batch.

        Gradients are averaged over processes, so the loss is multiplied by their number here.
        """
        self.accelerator.backward(loss * self.count)

    def gather(self, own: Tensor) -> Tensor:
        """Collective: the rows of all processes, in their order, on the CPU."""
        return cast(Tensor, self.accelerator.gather(own.to(self.device))).cpu()

    def any(self, flag: bool) -> bool:
        """Collective: whether the flag is set in a process."""
        if self.count == 1:
            return flag
        return bool(self.gather(torch.tensor([flag])).any())

    def first_before_others(self) -> AbstractContextManager[None]:
        """Collective: a block that the first process completes before the others begin it."""
        return cast(AbstractContextManager[None], self.accelerator.main_process_first())

    def release(self) -> None:
        """Let go of the models that were prepared."""
        self.accelerator.free_memory()

    def wait(self) -> None:
        """Collective: wait for all processes."""
        self.accelerator.wait_for_everyone()

    def execution(self) -> dict[str, Any]:
        """What the last bits of a training's numbers depend on, beside its parameters and data."""
        return {
            "processes": self.count,
            "sharding": self.params.sharding if self.sharded else "none",
            "micro_batch": self.params.micro_batch,
            "precision": self.params.precision,
            "channels_last": self.params.channels_last,
            "compiled": self.params.compile,
            "threads": torch.get_num_threads(),
            "device": instruction_set(self.device),
            "torch": torch.__version__,
        }
