"""Encode: the latents of a head's views, RGB and normals, from the autoencoder that the model works in.

Artifact: a Zarr group of one subject with rgb and normals, float16 (1, view, channel, height, width): the
mean of the posterior times the autoencoder's scaling factor, so of about unit variance.
Pictures are taken as they are on disk: RGB on white, normals (n + 1) / 2 in the world frame on (128, 128, 128).

diffusers takes seconds to import, so that is left to the functions that run the autoencoder.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from spinmeround.models.device import best_device
from spinmeround.storage.dataset import HeadEntry, add_latents, read_pictures, standing_latents, write_latents
from spinmeround.storage.weights import embedded_weights, fingerprint
from spinmeround.tasks.stage import Stage, StageJob, StageParams

if TYPE_CHECKING:
    from spinmeround.models.diffusion.latents import Autoencoder


class EncodeParams(StageParams):
    """The autoencoder, and how many views go through it at once."""

    autoencoder: str = Field(
        "embedded", description="'embedded', or the folder of a diffusers AutoencoderKL or AutoencoderDC"
    )
    batch: int = Field(25, ge=1, description="Views encoded at once")


def autoencoder_path(params: EncodeParams) -> Path:
    """The folder of the autoencoder."""
    return embedded_weights("autoencoder") if params.autoencoder == "embedded" else Path(params.autoencoder)


KINDS = ("AutoencoderKL", "AutoencoderDC")
"""diffusers' classes that an autoencoder may be of."""


class LatentShape(NamedTuple):
    """What a latent of an autoencoder is like: `factor` pixels of a picture along a side are one of it."""

    factor: int
    channels: int


def latent_shape(params: EncodeParams) -> LatentShape | None:
    """The shape of the autoencoder's latents, by its configuration; None where it is not here."""
    try:
        config = json.loads((autoencoder_path(params) / "config.json").read_text())
        levels = config.get("block_out_channels") or config["encoder_block_out_channels"]
        return LatentShape(int(2 ** (len(levels) - 1)), int(config["latent_channels"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def autoencoder_fingerprint(params: EncodeParams) -> str:
    """What stands for the autoencoder's weights in keys and in the dataset."""
    return fingerprint(autoencoder_path(params))


@lru_cache(maxsize=2)
def load_autoencoder(path: Path) -> "Autoencoder":
    """The autoencoder in float32 on the best device, for inference; the same object for the same path.

    Raises ValueError where the folder holds none.
    """
    try:
        kind = json.loads((path / "config.json").read_text()).get("_class_name")
    except (OSError, ValueError, AttributeError):
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
def encode_images(
    autoencoder: "Autoencoder", images: Float[Tensor, "view 3 height width"], batch: int
) -> Float[Tensor, "view channel h w"]:
    """Scaled latents of pictures in [-1, 1], `batch` of them at once; on the CPU, wherever the autoencoder is."""
    from spinmeround.models.diffusion.latents import encode_images

    device = autoencoder.device
    return torch.cat([encode_images(autoencoder, part.to(device)).cpu() for part in images.split(batch)])


def _weights(sections: Mapping[str, Any]) -> str:
    return autoencoder_fingerprint(sections["encode"])


def _make(job: StageJob) -> None:
    params = job.sections["encode"]
    autoencoder = load_autoencoder(autoencoder_path(params))
    pictures = read_pictures(job.inputs["write"], "rgb", "normals")
    rgb, normals = (
        encode_images(autoencoder, as_images(pictures[name]), params.batch).numpy().astype(np.float16)
        for name in ("rgb", "normals")
    )
    write_latents(job.out, rgb, normals)


ENCODE = Stage(name="encode", version=1, reads=("encode",), inputs=("write",), weights=_weights, make=_make)


def publish_latents(dataset: Path, latents: Mapping[str, Path], params: EncodeParams) -> str:
    """Puts the `encode` artifacts of all heads (id to folder) into a dataset's `latents` group; returns its digest.

    Latents of the same autoencoder that are there already stay. Raises DatasetError where a head is missing.
    """
    autoencoder = autoencoder_fingerprint(params)
    if (digest := standing_latents(dataset, autoencoder)) is not None:
        return digest
    return add_latents(dataset, [HeadEntry(id=id, folder=folder) for id, folder in latents.items()], autoencoder)
