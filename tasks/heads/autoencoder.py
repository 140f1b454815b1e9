"""The autoencoder of the latents: loaded once per process, in float32, for inference.

Imports torch; `encode` has the configuration and does not. diffusers takes seconds to import, so only the functions
that need it import it.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from spinmeround.models.device import best_device
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError

if TYPE_CHECKING:
    from spinmeround.models.diffusion.latents import Autoencoder

KINDS = ("AutoencoderKL", "AutoencoderDC")
"""Supported autoencoder classes of diffusers."""


@lru_cache(maxsize=2)
def load_autoencoder(path: Path) -> "Autoencoder":
    """The autoencoder in float32 on the best device; the same object for the same path.

    Raises ValueError if the folder holds none.
    """
    try:
        kind = read_json_object(path / "config.json", "an autoencoder's configuration").get("_class_name")
    except ConfigError:
        kind = None
    if kind not in KINDS:
        raise ValueError(
            f"encode.autoencoder: expected a folder with the config.json of a diffusers {' or '.join(KINDS)}, found "
            f"{kind or 'none'} at {path}"
        )
    import diffusers

    autoencoder = getattr(diffusers, kind).from_pretrained(path, torch_dtype=torch.float32, local_files_only=True)
    autoencoder.to(best_device())
    found: Autoencoder = autoencoder.eval().requires_grad_(False)
    return found


def as_images(pictures: UInt8[np.ndarray, "view height width 3"]) -> Float[Tensor, "view 3 height width"]:
    """Bytes to [-1, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode_batches(
    autoencoder: "Autoencoder", images: Float[Tensor, "view 3 height width"], batch: int
) -> Float[Tensor, "view channel h w"]:
    """Scaled latents of images in [-1, 1], encoded `batch` at a time; returned on the CPU."""
    from spinmeround.models.diffusion.latents import encode_images

    device = autoencoder.device
    return torch.cat([encode_images(autoencoder, part.to(device)).cpu() for part in torch.split(images, batch)])
