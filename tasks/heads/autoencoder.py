"""The autoencoder of the latents: loaded once per process, in float32, for inference.

Imports torch; `encode` has the configuration and does not. diffusers takes seconds to import, so only the functions
that need it import it.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, UInt8
from torch import Tensor

from spinmeround.models.device import best_device
from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.models.diffusion.params import NormalsFrame
from spinmeround.tasks.weights.networks import AUTOENCODERS, load_network

if TYPE_CHECKING:
    from spinmeround.models.diffusion.latents import Autoencoder


@lru_cache(maxsize=2)
def load_autoencoder(path: Path) -> "Autoencoder":
    """The autoencoder in float32 on the best device; the same object for the same path.

    Raises ConfigError if the folder holds none, or one that is incomplete or not finite.
    """
    autoencoder = load_network(path, *AUTOENCODERS, field="encode.autoencoder")
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


def encode_views(
    autoencoder: "Autoencoder",
    rgb: UInt8[np.ndarray, "view height width 3"],
    normals: UInt8[np.ndarray, "view height width 3"],
    cam2world: Float32[np.ndarray, "view 4 4"],
    *,
    frame: NormalsFrame,
    batch: int,
) -> tuple[Float16[np.ndarray, "view channel h w"], Float16[np.ndarray, "view channel h w"]]:
    """Latents of a head's pictures and of its normals, these turned into `frame`; `batch` are encoded at once."""
    turns = world2frame(frame, torch.from_numpy(cam2world))
    images = as_images(rgb), turn_normals(as_images(normals), turns)
    with np.errstate(over="ignore"):  # beyond float16 becomes infinite, which the writer refuses
        found = [encode_batches(autoencoder, each, batch).numpy().astype(np.float16) for each in images]
    return found[0], found[1]
