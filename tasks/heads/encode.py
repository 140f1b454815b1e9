"""Encode: the latents of a head's views, RGB and normals, from the model's autoencoder.

Artifact: a Zarr group of one subject with rgb and normals, float16 (1, view, channel, height, width): the mean of the
posterior times the autoencoder's scaling factor, so about unit variance. RGB is encoded as stored, on white. Normals
are turned into the frame of `normals_frame` first; those of `reference`, which depends on the group, into the camera's,
and the training encodes them again with their group.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from spinmeround.models.diffusion.params import NormalsFrame
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.dataset import (
    HeadEntry,
    add_latents,
    latents_of,
    read_manifest,
    read_pictures,
    record_latents,
    stated_latents,
    write_latents,
)
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.numbers import check_varied
from spinmeround.storage.weights import embedded_weights, fingerprint
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections

_PICTURES = {"rgb": "render", "normals": "normals"}
"""The arrays that are encoded, and the stages that make them."""


class EncodeParams(StageParams):
    """The autoencoder, the frame of the normals and the batch size."""

    autoencoder: str = Field(
        "embedded", description="'embedded', or the folder of a diffusers AutoencoderKL or AutoencoderDC"
    )
    normals_frame: NormalsFrame = Field(
        "camera",
        description="Frame of the normals inside the model: of each view's camera, the group's first view or the world",
    )
    batch: int = Field(25, ge=1, description="Views encoded at once")

    @property
    def stored_frame(self) -> Literal["camera", "world"]:
        """Frame of the normals in the latents on disk."""
        return "world" if self.normals_frame == "world" else "camera"


class EncodeSections(StageSections):
    """Sections that the encode stage reads."""

    views: ViewGrid
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

    Existing latents that `published_latents` finds are kept. Raises DatasetError if a head is missing.
    """
    found = published_latents(dataset, params)
    if found is None:
        entries = [HeadEntry(id=id, folder=folder) for id, folder in latents.items()]
        frame = {"normals_frame": params.stored_frame}
        found = add_latents(dataset, entries, autoencoder_fingerprint(params), frame)
    record_latents(dataset.parent, read_manifest(dataset).digest, found)
    return found


def published_latents(dataset: Path, params: EncodeParams) -> str | None:
    """Digest of a dataset's latents if they are those of `params` and every file has its size, else None.

    None too if the `versions.json` beside the dataset states others: then they have been changed with their manifest.
    """
    found = latents_of(dataset, autoencoder_fingerprint(params), {"normals_frame": params.stored_frame})
    if found is None or stated_latents(dataset.parent, read_manifest(dataset).digest) not in (None, found):
        return None
    return found


def _fingerprint(sections: EncodeSections) -> str:
    return autoencoder_fingerprint(sections.encode)


def _on_gpu(sections: EncodeSections) -> bool:
    return True


def _make(job: StageJob[EncodeSections]) -> None:
    from spinmeround.tasks.heads.autoencoder import encode_views, load_autoencoder

    params = job.sections.encode
    pictures = {name: read_pictures(job.inputs[stage], name)[name] for name, stage in _PICTURES.items()}
    cam2world = job.sections.views.cameras().cam2world
    autoencoder, frame = load_autoencoder(autoencoder_path(params)), params.stored_frame
    rgb, normals = encode_views(
        autoencoder, pictures["rgb"], pictures["normals"], cam2world, frame=frame, batch=params.batch
    )
    check_varied(f"encode {job.head.id}: latents", {"rgb": rgb, "normals": normals})
    write_latents(job.out, rgb, normals)


ENCODE = Stage(
    name="encode",
    version=3,
    sections_type=EncodeSections,
    inputs=tuple(_PICTURES.values()),
    after=("embed",),
    weights=_fingerprint,
    gpu=_on_gpu,
    make=_make,
)
