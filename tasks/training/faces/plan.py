"""The pictures from outside that `adapt` trains on, in shards, and the key of each. Imports no networks.

Of a source with more pictures than wanted, each container gives the same share of its own, drawn at random. A shard is
an artifact of the stage `faces`; its key holds the checksums of its pictures, not their place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.embed import EmbedParams, recognition_path
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint, latent_shape
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.training.faces.sources import FIELD, Face, containers, list_faces
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.phases import FacesParams
from spinmeround.tasks.weights.insightface_packs import open_pack

STAGE, VERSION = "faces", 1
SHARD = 5000
"""Pictures of a shard."""


@dataclass(frozen=True, kw_only=True)
class FaceShard:
    """Some pictures of a container, and how they are prepared: embedded, and encoded at `side` pixels."""

    container: Path
    faces: tuple[Face, ...]
    side: int
    landmarks: str
    embed: EmbedParams
    encode: EncodeParams

    @property
    def detector(self) -> Path | None:
        """The face detector, if landmarks are detected for pictures without an embedding."""
        needed = self.landmarks == "detector" and any(face.embedding is None for face in self.faces)
        return open_pack(Path(self.embed.pack)).detector if needed else None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters in its key."""
        detection = self.embed.detection.model_dump(mode="json") if self.detector else None
        return {"side": self.side, "landmarks": self.landmarks, "detection": detection}

    @property
    def inputs(self) -> dict[str, str]:
        """The inputs in its key."""
        return {"pictures": sha256_json([face.content for face in self.faces])}

    @property
    def weights(self) -> str:
        """Fingerprints of the networks that it is prepared with."""
        recognition = fingerprint(recognition_path(self.embed.recognition))
        detector = fingerprint(self.detector) if self.detector else "none"
        return f"{recognition} detector {detector} autoencoder {autoencoder_fingerprint(self.encode)}"

    @property
    def key(self) -> str:
        """Content address."""
        return artifact_key(STAGE, VERSION, self.params, self.inputs, self.weights)


def plan_faces(train: TrainParams, embed: EmbedParams, encode: EncodeParams) -> list[FaceShard]:
    """The shards of the source of `adapt`; none where it has no steps or trains on the heads.

    Raises ConfigError for a source without pictures, and where a detector is needed and the profile names none.
    """
    faces = train.adapt.faces
    if faces.folder is None or not train.adapt.steps:
        return []
    shape = latent_shape(encode)
    if shape is None:
        raise ConfigError(f"encode.autoencoder: expected an autoencoder in {encode.autoencoder}, found none")
    found = []
    for container, chosen in _chosen(faces).items():
        if faces.landmarks == "detector" and not embed.pack and any(face.embedding is None for face in chosen):
            raise ConfigError(
                f"{FIELD}: expected a face detector in embed.pack, or an embedding beside each picture, found none for "
                f"{chosen[0].name} in {container}; for pictures that are aligned as ArcFace's crops are, set "
                "train.adapt.faces.landmarks=aligned"
            )
        for start in range(0, len(chosen), SHARD):
            found.append(
                FaceShard(
                    container=container,
                    faces=tuple(chosen[start : start + SHARD]),
                    side=shape.factor * train.unet.sample_size,
                    landmarks=faces.landmarks,
                    embed=embed,
                    encode=encode,
                )
            )
    return found


def face_inputs(shards: Sequence[str]) -> dict[str, str]:
    """The entries of a training's inputs for the shards of these keys."""
    return {f"{STAGE} {number}": key for number, key in enumerate(shards)}


def _chosen(faces: FacesParams) -> Mapping[Path, list[Face]]:
    """The pictures of each container: all of them, or its share of `faces.most`."""
    assert faces.folder is not None
    listed = {container: list_faces(container) for container in containers(faces.folder)}
    share = min(1.0, faces.most / sum(map(len, listed.values())))
    found = {}
    for number, (container, each) in enumerate(listed.items()):
        count = max(1, round(share * len(each)))
        order = draw_rng(0, number).permutation(len(each))[:count]
        found[container] = [each[index] for index in np.sort(order)]
    return found
