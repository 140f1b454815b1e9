"""How many groups of views, or pictures, fit into memory at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor

from spinmeround.models.diffusion.latents import Autoencoder, decoder_width
from spinmeround.models.diffusion.unet import MultiviewUNet

LIVE_FEATURE_MAPS = 24
"""Feature maps of the outermost level that are alive at the peak of a forward without gradients: the skip connections,
the input of the widest up block and the feed-forward's inner states, with room to spare (tests count 13 to 18)."""

LIVE_DECODER_MAPS = 12
"""Feature maps of the decoder's outermost width and the picture's size that are alive at the peak of decoding: the
widest block works on twice that width (tests count 5 and 6)."""

USABLE_SHARE = 0.6

Items = TypeVar("Items", Sequence[Any], Tensor)


def free_memory(device: torch.device) -> int:
    """Bytes that may be taken on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def group_bytes(unet: MultiviewUNet, *, branches: int) -> int:
    """Working memory of the forward of one group, in all branches of the guidance."""
    base = unet.config["base"]
    inputs = 2 * unet.latent_channels + unet.ray_channels + 1
    channels = LIVE_FEATURE_MAPS * base["block_out_channels"][0] + 2 * inputs
    element = torch.finfo(unet.dtype).bits // 8
    return int(channels * base["sample_size"] ** 2 * element * unet.config["views"] * branches)


def groups_that_fit(unet: MultiviewUNet, groups: int, *, branches: int, free: int | None = None) -> int:
    """How many of `groups` groups to generate at once, 1 at least. `free` are bytes, by default the device's now."""
    usable = USABLE_SHARE * (free_memory(unet.device) if free is None else free)
    return max(1, min(groups, int(usable // group_bytes(unet, branches=branches))))


def pictures_that_fit(vae: Autoencoder, side: int, pictures: int, *, free: int | None = None) -> int:
    """How many of `pictures` of this side to decode at once, 1 at least. `free` as above."""
    element = torch.finfo(vae.dtype).bits // 8
    usable = USABLE_SHARE * (free_memory(vae.device) if free is None else free)
    one = LIVE_DECODER_MAPS * decoder_width(vae) * side**2 * element
    return max(1, min(pictures, int(usable // one)))


def in_halves(compute: Callable[[Items], Tensor], items: Items) -> Tensor:
    """`compute(items)`, or where that does not fit into memory, of either half and so on.

    Raises RuntimeError for a single item that does not fit, and whatever else `compute` raises.
    """
    try:
        return compute(items)
    except RuntimeError as error:
        if len(items) == 1 or not should_reduce_batch_size(error):
            raise
    half = len(items) // 2  # outside of the handler, whose traceback holds the memory
    return torch.cat([in_halves(compute, items[:half]), in_halves(compute, items[half:])])
