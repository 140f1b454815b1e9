"""What is trained: the multiview UNet and the text encoder that reads the identity, their optimiser and average.

`TrainingState` packs into named tensors and back without loss, so a training that goes on from a
checkpoint computes the very numbers that it would have computed without the interruption.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.unet import MultiviewUNet, build_unet
from spinmeround.models.identity.conditioning import IdentityConditioner
from spinmeround.storage.errors import environment_errors
from spinmeround.tasks.training.params import TextEncoderParams


def build_text_encoder(params: TextEncoderParams) -> CLIPTextModel:
    """A text encoder of these sizes with fresh random weights."""
    return CLIPTextModel(text_encoder_config(params))


def text_encoder_config(params: TextEncoderParams) -> CLIPTextConfig:
    """The configuration of a text encoder of these sizes."""
    return CLIPTextConfig(
        vocab_size=params.vocabulary,
        hidden_size=params.width,
        intermediate_size=params.feed_forward,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        max_position_embeddings=params.prompt.length,
        bos_token_id=params.prompt.start,
        eos_token_id=params.prompt.end,
        pad_token_id=params.prompt.padding,
    )


class Networks(nn.Module):
    """All that is trained, as one module."""

    def __init__(self, unet: MultiviewUNet, conditioner: IdentityConditioner) -> None:
        super().__init__()
        self.unet = unet
        self.conditioner = conditioner


def build_networks(unet: UNetParams, text_encoder: TextEncoderParams, seed: int) -> Networks:
    """Networks with random weights that are a function of the seed.

    Raises ValueError where the UNet does not take states of the text encoder's width.
    """
    if unet.cross_attention_dim != text_encoder.width:
        raise ValueError(
            f"train.unet.cross_attention_dim: expected the text encoder's width {text_encoder.width}, "
            f"got {unet.cross_attention_dim}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Networks(build_unet(unet), IdentityConditioner(build_text_encoder(text_encoder), text_encoder.prompt))


class Schedule(NamedTuple):
    """Learning rate: a linear rise over `warm_up` steps, then half a cosine down to `floor` of the peak."""

    peak: float
    warm_up: int
    steps: int
    floor: float

    def at(self, step: int) -> float:
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        share = torch.tensor((step - self.warm_up) / max(1, self.steps - self.warm_up), dtype=torch.float64)
        return self.peak * float(self.floor + (1 - self.floor) * (1 + torch.cos(torch.pi * share)) / 2)


class TrainingState:
    """Networks, AdamW and the exponential moving average of the weights (power warm-up, diffusers' EMAModel).

    With `disk`, a folder, the moments and the average lie in a mapped file there, so that all but the weights and
    their gradients may exceed the memory; the numbers are the same. Raises StorageUnavailable where it has no room.
    """

    def __init__(self, networks: Networks, weight_decay: float, ema_decay: float, disk: Path | None = None) -> None:
        self.networks = networks
        self.optimiser = torch.optim.AdamW(networks.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=weight_decay)
        parameters = list(networks.parameters())
        if disk is None:
            self.average = EMAModel(parameters, decay=ema_decay)
            return
        average, first, second = (_mapped_like(parameters, disk / "state.tmp") for _ in range(3))
        with torch.no_grad():
            for mine, parameter in zip(average, parameters, strict=True):
                mine.copy_(parameter)
        self.average = EMAModel([], decay=ema_decay)
        self.average.shadow_params = average
        self._begin(first, second)

    def _begin(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """The optimiser's state before the first step, in these tensors."""
        for parameter, mean, square in zip(self.networks.parameters(), first, second, strict=True):
            self.optimiser.state[parameter] = {"step": torch.tensor(0.0), "exp_avg": mean, "exp_avg_sq": square}

    def update(self, learning_rate: float, gradient_limit: float) -> None:
        """One step of the optimiser from the gradients that are there, which it clears."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        nn.utils.clip_grad_norm_(self.networks.parameters(), gradient_limit)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.step(self.networks.parameters())

    def averaged(self) -> Networks:
        """The networks, with the averaged weights put in."""
        self.average.copy_to(self.networks.parameters())
        return self.networks

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name: the very tensors, which that step changes."""
        return {name: tensor.detach() for name, tensor in self._named()}

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Takes over `tensors` as they were after `steps`; raises ValueError where they are of other networks."""
        if not self.optimiser.state:
            first, second = ([torch.zeros_like(each) for each in self.networks.parameters()] for _ in range(2))
            self._begin(first, second)
        here = dict(self._named())
        shapes = {name: tuple(tensor.shape) for name, tensor in here.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
            raise ValueError("checkpoint: expected the tensors of these networks, got others; train into a new folder")
        with torch.no_grad():
            for name, tensor in here.items():
                tensor.copy_(tensors[name])
        self.average.optimization_step = steps

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        names = [name for name, _ in self.networks.named_parameters()]
        parameters = list(self.networks.parameters())
        for name, parameter, averaged in zip(names, parameters, self.average.shadow_params, strict=True):
            yield f"weights.{name}", parameter
            yield f"average.{name}", averaged
            for part, tensor in sorted(self.optimiser.state[parameter].items()):
                yield f"optimiser.{part}.{name}", tensor


def _mapped_like(tensors: Sequence[Tensor], path: Path) -> list[Tensor]:
    """Zeros of these shapes in a mapped file, which is gone when they are, also after a kill."""
    sizes = [tensor.numel() for tensor in tensors]
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("xb") as file:  # room is taken now: a full disk found later, by the mapping, kills the process
            os.posix_fallocate(file.fileno(), 0, 4 * sum(sizes))
        flat = torch.from_file(str(path), shared=True, size=sum(sizes), dtype=torch.float32)
        path.unlink()
    return [part.view_as(tensor) for part, tensor in zip(flat.split(sizes), tensors, strict=True)]
