"""Batch sizes that fit into memory, for groups of views and for images."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor

from spinmeround.models.diffusion.latents import Autoencoder, decoder_width
from spinmeround.models.diffusion.unet import MultiviewUNet

LIVE_FEATURE_MAPS = 24
"""Feature maps of the outermost level that are live at the peak of a forward pass without gradients: the skip
connections, the input of the widest up block and the feed-forward's hidden states, with a margin (tests count 13 to
18)."""

LIVE_DECODER_MAPS = 12
"""Feature maps of the decoder's outermost width, at image size, that are live at the peak of decoding; the widest block
has twice that width (tests count 5 and 6)."""

USABLE_SHARE = 0.6
"""Share of the free memory that a batch may use."""

Items = TypeVar("Items", Sequence[Any], Tensor)


def free_memory(device: torch.device) -> int:
    """Bytes available on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def group_bytes(unet: MultiviewUNet, *, branches: int) -> int:
    """Working memory of the forward pass of one group, over all guidance branches."""
    base = unet.config["base"]
    inputs = unet.view_channels + unet.ray_channels + 1
    channels = LIVE_FEATURE_MAPS * base["block_out_channels"][0] + 2 * inputs
    element = torch.finfo(unet.dtype).bits // 8
    return int(channels * base["sample_size"] ** 2 * element * unet.config["views"] * branches)


def max_group_batch(unet: MultiviewUNet, groups: int, *, branches: int, free: int | None = None) -> int:
    """Batch size for `groups` groups, at least 1. `free` is in bytes, by default what the device has available."""
    usable = USABLE_SHARE * (free_memory(unet.device) if free is None else free)
    return max(1, min(groups, int(usable // group_bytes(unet, branches=branches))))


def max_image_batch(vae: Autoencoder, side: int, images: int, *, free: int | None = None) -> int:
    """Batch size for decoding `images` images of this side, at least 1. `free` as in `max_group_batch`."""
    element = torch.finfo(vae.dtype).bits // 8
    usable = USABLE_SHARE * (free_memory(vae.device) if free is None else free)
    one = LIVE_DECODER_MAPS * decoder_width(vae) * side**2 * element
    return max(1, min(images, int(usable // one)))


def halve_on_out_of_memory(compute: Callable[[Items], Tensor], items: Items) -> Tensor:
    """`compute(items)`; if that runs out of memory, the concatenated results of both halves, recursively.

    Raises RuntimeError for a single item that does not fit, and any other error of `compute`.
    """
    try:
        return compute(items)
    except RuntimeError as error:
        if len(items) == 1 or not should_reduce_batch_size(error):
            raise
    half = len(items) // 2  # outside the handler, because the traceback keeps the memory alive
    return torch.cat([halve_on_out_of_memory(compute, items[:half]), halve_on_out_of_memory(compute, items[half:])])
