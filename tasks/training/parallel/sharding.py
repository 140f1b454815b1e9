"""Weights that are divided among the processes (FSDP2), and the whole tensors of checkpoints."""

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

_UNITS = ("MultiviewTransformerBlock", "BasicTransformerBlock", "ResnetBlock2D")
"""The classes of layers whose weights are gathered together, when they compute."""


def shard(model: nn.Module, device: torch.device, processes: int) -> None:
    """Divide the trained weights of a model among the processes, in place. Frozen weights stay whole."""
    mesh = init_device_mesh(device.type, (processes,))
    frozen = {weight for weight in model.parameters() if not weight.requires_grad}
    for module in model.modules():
        if type(module).__name__ in _UNITS:
            fully_shard(module, mesh=mesh, ignored_params=frozen)
    fully_shard(model, mesh=mesh, ignored_params=frozen)


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; the tensor itself if it is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor. All processes must call it for a divided one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_like(tensor: Tensor, example: Tensor) -> Tensor:
    """A whole tensor, divided as `example` is if it has that shape."""
    if isinstance(example, DTensor) and tensor.shape == example.shape:
        return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)
    return tensor
