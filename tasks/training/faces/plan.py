"""The pictures from outside that `adapt` trains on, in shards, and the key of each. Imports no networks.

Of a source with more pictures than wanted, those with the smallest hashes are taken: a random choice that depends
neither on their order nor on how they are distributed over files. A shard is an artifact of the stage `faces`; its key
holds the checksums of its pictures, not their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from pathlib import Path
from typing import Any

from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.embed import EmbedParams, recognition_path
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint, latent_shape
from spinmeround.tasks.training.faces.sources import FIELD, Face, containers, list_faces
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import FacesParams
from spinmeround.tasks.weights.insightface_packs import open_pack

STAGE, VERSION = "faces", 1
SHARD = 5000
"""Pictures of a shard."""

Stamp = tuple[int, int, int]


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
        needed = self.landmarks == "detector" and not all(face.embedding for face in self.faces)
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
        alone = next((face for face in chosen if not face.embedding), None)
        if alone is not None and faces.landmarks == "detector" and not embed.pack:
            raise ConfigError(
                f"{FIELD}: expected a face detector in embed.pack, or an embedding beside each picture, found none for "
                f"{alone.name} in {container}; for pictures that are aligned as ArcFace's crops are, set "
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


def _chosen(faces: FacesParams) -> dict[Path, list[Face]]:
    """The pictures to prepare by container, in order."""
    assert faces.folder is not None
    found = containers(faces.folder)
    return _smallest(tuple(found), faces.most, tuple(map(_stamp, found)))


@lru_cache(maxsize=2)
def _smallest(found: tuple[Path, ...], most: int, stamps: tuple[Stamp, ...]) -> dict[Path, list[Face]]:
    """At most `most` pictures of these containers, of which one is held at a time; `stamps` change with their files."""
    kept: list[tuple[str, int, Face]] = []
    for number, container in enumerate(found):
        kept += [(sha256_json(face.content), number, face) for face in list_faces(container)]
        if len(kept) > most:
            kept = nsmallest(most, kept, key=lambda each: each[:2])
    chosen: dict[Path, list[Face]] = {}
    for _, number, face in sorted(kept, key=lambda each: (each[1], each[2].name)):
        chosen.setdefault(found[number], []).append(face)
    return chosen


def _stamp(container: Path) -> Stamp:
    """Number, total size and newest time of the files of a container."""
    files = [path.stat() for path in container.rglob("*")] if container.is_dir() else [container.stat()]
    return len(files), sum(each.st_size for each in files), max((each.st_mtime_ns for each in files), default=0)
