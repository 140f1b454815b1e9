"""How many groups of views fit into memory at once."""

import psutil
import torch

from models.diffusion.unet import MultiviewUNet

LIVE_FEATURE_MAPS = 24
"""Feature maps of the outermost level that are alive at the peak of a forward without gradients: the skip connections,
the input of the widest up block and the feed-forward's inner states, with room to spare (tests count 13 to 18)."""

USABLE_SHARE = 0.6


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
