"""The state of a training: the networks, their optimiser and their averaged weights.

The networks are the multiview UNet and the text encoder that reads the identity, which is frozen unless it is trained
too. `TrainingState` converts to named tensors and back without loss, so a training that resumes from a checkpoint
computes the same numbers as one that was not interrupted. Frozen weights are in no checkpoint: they are those that the
training began with.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.unet import MultiviewUNet, build_unet
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from spinmeround.storage.errors import SpinMeRoundError, environment_errors
from spinmeround.tasks.training.params import TextEncoderParams


def build_text_encoder(params: TextEncoderParams, seed: int) -> CLIPTextModel:
    """A text encoder with random weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPTextModel(text_encoder_config(params))


def text_encoder_config(params: TextEncoderParams) -> CLIPTextConfig:
    """The transformers configuration of a text encoder."""
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


AVERAGE = "average."
"""Prefix of the averaged weights, which are the result of a training, in its checkpoints."""

STATISTICS = "statistics."
"""Prefix of the statistics of the latents, if the model has any."""


class NotFinite(SpinMeRoundError):
    """A loss or gradient that is not finite; the step is not taken."""


class Networks(nn.Module):
    """The networks of a training as one module; a frozen one has weights that require no gradient.

    The UNet of `adapt` is that of single pictures, before it is extended to several views.
    """

    unet: MultiviewUNet | UNet2DConditionModel
    prompt_encoder: IdentityPromptEncoder

    def __init__(self, unet: MultiviewUNet | UNet2DConditionModel, prompt_encoder: IdentityPromptEncoder) -> None:
        super().__init__()
        self.unet = unet
        self.prompt_encoder = prompt_encoder

    @property
    def multiview(self) -> MultiviewUNet:
        """The UNet of a phase of several views."""
        assert isinstance(self.unet, MultiviewUNet)
        return self.unet

    def freeze_text_encoder(self) -> Self:
        """The same networks with a text encoder that is not trained."""
        self.prompt_encoder.requires_grad_(False).eval()
        return self

    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that are trained, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def statistics(self) -> dict[str, Tensor]:
        """The statistics of the latents by name, if the UNet has any."""
        found = isinstance(self.unet, MultiviewUNet) and self.unet.statistics
        return dict(found.named_buffers()) if found else {}

    def frozen_digest(self) -> str:
        """SHA-256 of the weights that are not trained, by which a checkpoint names those that it lacks."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.named_parameters()):
            if not weight.requires_grad:
                digest.update(name.encode())
                digest.update(weight.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


def build_networks(unet: UNetParams, text_encoder: TextEncoderParams, seed: int) -> Networks:
    """Networks with random weights, a function of the seed.

    Raises ValueError if the UNet's cross-attention width differs from the text encoder's width.
    """
    if unet.cross_attention_dim != text_encoder.width:
        raise ValueError(
            f"train.unet.cross_attention_dim: expected the text encoder's width {text_encoder.width}, "
            f"got {unet.cross_attention_dim}"
        )
    prompt_encoder = IdentityPromptEncoder(build_text_encoder(text_encoder, seed), text_encoder.prompt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Networks(build_unet(unet), prompt_encoder)


class Schedule(NamedTuple):
    """Learning rate: a linear rise over `warm_up` steps, then half a cosine to `floor` of the peak at step `decay`.

    With `decay` 0 it does not fall. It is independent of the number of steps, so that more of them continue a training.
    """

    peak: float
    warm_up: int
    decay: int
    floor: float

    def at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        if not self.decay:
            return self.peak
        done = min(1.0, (step - self.warm_up) / max(1, self.decay - self.warm_up))
        share = torch.tensor(done, dtype=torch.float64)
        return self.peak * float(self.floor + (1 - self.floor) * (1 + torch.cos(torch.pi * share)) / 2)


class TrainingState:
    """Networks, AdamW and the exponential moving average of the weights (diffusers' EMAModel with power warm-up).

    With a folder `disk`, the moments and the average are in a mapped file there, so everything but the weights and
    their gradients may exceed the memory; the results are identical. Raises StorageUnavailable if the disk is full.
    """

    def __init__(self, networks: Networks, weight_decay: float, ema_decay: float, disk: Path | None = None) -> None:
        self.networks, self.trained = networks, networks.trained()
        parameters = list(self.trained.values())
        self.optimiser = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=weight_decay)
        if disk is None:
            self.average = EMAModel(parameters, decay=ema_decay)
            return
        average, first, second = (_mapped_like(parameters, disk / "state.tmp") for _ in range(3))
        with torch.no_grad():
            for averaged, parameter in zip(average, parameters, strict=True):
                averaged.copy_(parameter)
        self.average = EMAModel([], decay=ema_decay)
        self.average.shadow_params = average
        self._initialise_moments(first, second)

    def _initialise_moments(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Use these tensors as the optimiser's state before the first step."""
        for parameter, mean, square in zip(self.trained.values(), first, second, strict=True):
            self.optimiser.state[parameter] = {"step": torch.tensor(0.0), "exp_avg": mean, "exp_avg_sq": square}

    def update(self, learning_rate: float, gradient_limit: float) -> float:
        """Take one optimiser step with the current gradients, then clear them; returns their norm before clipping.

        Raises NotFinite, and takes no step, if their norm is not finite.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        gradients = [weight.grad for weight in self.trained.values() if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not bool(norm.isfinite()):
            raise NotFinite(f"expected finite gradients, found {self._not_finite()}")
        nn.utils.clip_grads_with_norm_(self.trained.values(), gradient_limit, norm)
        self.optimiser.step()
        self.clear_gradients()
        self.average.step(self.trained.values())
        return float(norm)

    def clear_gradients(self) -> None:
        """Forget the current gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def _not_finite(self) -> str:
        """The parameters whose gradients are not finite."""
        graded = ((name, weight.grad) for name, weight in self.trained.items() if weight.grad is not None)
        names = [name for name, gradient in graded if not bool(gradient.isfinite().all())]
        return f"{len(names)} that are not, the first of {names[0]}" if names else "a norm beyond the range of float32"

    @contextmanager
    def with_average(self) -> Iterator[Networks]:
        """The networks with the averaged weights, inside the block."""
        self.average.store(self.trained.values())
        try:
            yield self.averaged()
        finally:
            self.average.restore(self.trained.values())

    def averaged(self) -> Networks:
        """The networks after their weights are replaced by the average."""
        self.average.copy_to(self.trained.values())
        return self.networks

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name. The tensors are not copies: the next step changes them."""
        return {name: tensor.detach() for name, tensor in self._named()}

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Restore the `tensors` of a training after `steps` steps. Raises ValueError if names or shapes differ."""
        if not self.optimiser.state:
            first, second = ([torch.zeros_like(each) for each in self.trained.values()] for _ in range(2))
            self._initialise_moments(first, second)
        current = dict(self._named())
        shapes = {name: tuple(tensor.shape) for name, tensor in current.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
            raise ValueError(
                "checkpoint: expected the tensors of these networks, found other names or shapes; train into a new "
                "folder"
            )
        with torch.no_grad():
            for name, tensor in current.items():
                tensor.copy_(tensors[name])
        self.average.optimization_step = steps

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, buffer in self.networks.statistics().items():
            yield f"{STATISTICS}{name}", buffer
        for (name, parameter), averaged in zip(self.trained.items(), self.average.shadow_params, strict=True):
            yield f"weights.{name}", parameter
            yield f"{AVERAGE}{name}", averaged
            for part, tensor in sorted(self.optimiser.state[parameter].items()):
                yield f"optimiser.{part}.{name}", tensor


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
