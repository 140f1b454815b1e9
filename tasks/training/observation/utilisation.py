"""The share of the device's rate that a training uses (model FLOPs utilisation, MFU).

The operations are those of the UNet's products and convolutions in a forward pass, times three for the backward pass;
recomputed activations, the text encoder and the autoencoder count for nothing. The rate is that of a large matrix
product in the training's precision, measured by each process before the first step.
"""

import time
from collections.abc import Mapping
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.rays import ray_channels
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.tasks.training.beginning.unets import random_unet
from spinmeround.tasks.training.model.precision import autocast_dtype
from spinmeround.tasks.training.params import Precision, TrainParams

_SIDES, _REPEATS = {"cuda": 8192}, 5
"""Side of the product's matrices, 1024 on other devices: tens of milliseconds on a core, a few on a large GPU."""


class Utilisation:
    """The utilisation of `processes` devices such as this process's by a training."""

    def __init__(self, params: TrainParams, device: torch.device, processes: int) -> None:
        kinds, tokens = {group.views for group in params.phase.groups}, params.text_encoder.prompt.length
        self._operations = {views: forward_operations(params.name, params.unet, views, tokens) for views in kinds}
        self._rate = processes * product_rate(params.precision, device)

    def share(self, groups: Mapping[int, int], seconds: float) -> float:
        """MFU of training on so many groups, by their number of views, in that time."""
        forward = sum(number * self._operations[views] for views, number in groups.items())
        return 3 * forward / seconds / self._rate


@cache
def forward_operations(phase: str, params: UNetParams, views: int, tokens: int) -> int:
    """Operations of a forward pass on one group, by torch's counter on a UNet that has no memory."""
    side, prompt = params.sample_size, (views, tokens, params.cross_attention_dim)
    with torch.no_grad(), torch.device("meta"):
        unet = random_unet("adapt" if phase == "adapt" else "multi-view", params, seed=0)
        with FlopCounterMode(display=False) as counter:
            if not isinstance(unet, MultiviewUNet):
                latents = torch.empty(views, params.latent_channels, side, side)
                unet(latents, torch.zeros(views), encoder_hidden_states=torch.empty(prompt))
            else:
                unet(
                    torch.empty(1, views, unet.view_channels, side, side),
                    torch.zeros(1, views),
                    mask=torch.empty(1, views, 1, side, side),
                    rays=torch.empty(1, views, ray_channels(params.ray_encoding), side, side),
                    encoder_hidden_states=torch.empty(1, *prompt[1:]),
                )
    return int(counter.get_total_flops())


@cache
def product_rate(precision: Precision, device: torch.device) -> float:
    """Operations per second of a matrix product: the peak of the device in practice. The fastest of some."""
    side = _SIDES.get(device.type, 1024)
    matrix = torch.linspace(-1, 1, side * side, device=device).view(side, side)
    matrix, seconds = matrix.to(autocast_dtype(precision) or torch.float32), []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)
