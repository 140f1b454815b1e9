"""Encode: the latents of a head's views, RGB and normals, from the model's autoencoder.

Artifact: a Zarr group of one subject with rgb and normals, float16 (1, view, channel, height, width): the mean of the
posterior times the autoencoder's scaling factor, so about unit variance. The pictures are encoded as stored: RGB on
white, normals (n + 1) / 2 in the world frame on (128, 128, 128).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from spinmeround.storage.dataset import HeadEntry, add_latents, latents_of, read_pictures, write_latents
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.numbers import check_varied
from spinmeround.storage.weights import embedded_weights, fingerprint
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections

_PICTURES = {"rgb": "render", "normals": "normals"}
"""The arrays that are encoded, and the stages that make them."""


class EncodeParams(StageParams):
    """The autoencoder and its batch size."""

    autoencoder: str = Field(
        "embedded", description="'embedded', or the folder of a diffusers AutoencoderKL or AutoencoderDC"
    )
    batch: int = Field(25, ge=1, description="Views encoded at once")


class EncodeSections(StageSections):
    """Sections that the encode stage reads."""

    encode: EncodeParams


def autoencoder_path(params: EncodeParams) -> Path:
    """The folder of the autoencoder."""
    return embedded_weights("autoencoder") if params.autoencoder == "embedded" else Path(params.autoencoder)


class LatentShape(NamedTuple):
    """Shape of an autoencoder's latents: `factor` is the ratio of image side to latent side."""

    factor: int
    channels: int


def latent_shape(params: EncodeParams) -> LatentShape | None:
    """The shape of the latents, from the autoencoder's configuration; None if it is not on this machine."""
    try:
        config = read_json_object(autoencoder_path(params) / "config.json", "an autoencoder's configuration")
        levels = config.get("block_out_channels") or config["encoder_block_out_channels"]
        return LatentShape(int(2 ** (len(levels) - 1)), int(config["latent_channels"]))
    except (ValueError, KeyError, TypeError, OverflowError):  # a ConfigError, among others: `encode` reports it
        return None


def autoencoder_fingerprint(params: EncodeParams) -> str:
    """Fingerprint of the autoencoder's weights, for keys and for the dataset."""
    return fingerprint(autoencoder_path(params))


def publish_latents(dataset: Path, latents: Mapping[str, Path], params: EncodeParams) -> str:
    """Put the `encode` artifacts of all heads (id to folder) into a dataset's group `latents`; returns its digest.

    Existing latents of the same autoencoder are kept. Raises DatasetError if a head is missing.
    """
    autoencoder = autoencoder_fingerprint(params)
    if (digest := latents_of(dataset, autoencoder)) is not None:
        return digest
    return add_latents(dataset, [HeadEntry(id=id, folder=folder) for id, folder in latents.items()], autoencoder)


def _fingerprint(sections: EncodeSections) -> str:
    return autoencoder_fingerprint(sections.encode)


def _make(job: StageJob[EncodeSections]) -> None:
    from spinmeround.tasks.heads.autoencoder import as_images, encode_batches, load_autoencoder

    params = job.sections.encode
    autoencoder = load_autoencoder(autoencoder_path(params))
    with np.errstate(over="ignore"):  # beyond float16 becomes infinite, which the check names
        rgb, normals = (
            encode_batches(autoencoder, as_images(read_pictures(job.inputs[stage], name)[name]), params.batch)
            .numpy()
            .astype(np.float16)
            for name, stage in _PICTURES.items()
        )
    check_varied(f"encode {job.head.id}: latents", {"rgb": rgb, "normals": normals})
    write_latents(job.out, rgb, normals)


ENCODE = Stage(
    name="encode",
    version=2,
    sections_type=EncodeSections,
    inputs=tuple(_PICTURES.values()),
    after=("embed",),
    weights=_fingerprint,
    make=_make,
)
