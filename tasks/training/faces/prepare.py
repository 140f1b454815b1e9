"""Prepares a shard of pictures from outside: the identity embedding and the latents of each, made once.

Artifact: `faces.json` {count, shape, names, dropped}, where `dropped` has the reason of each picture that can't be
used; `identities.f32` [count, 512] and `latents.f16` [count, channel, h, w], raw and little-endian, so that they are
mapped into memory.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from spinmeround.models.identity.alignment import align_faces
from spinmeround.models.identity.params import CROP_SIDE, EMBEDDING_SIZE
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.storage.numbers import check_arrays, json_text
from spinmeround.tasks.heads.autoencoder import as_images, encode_batches, load_autoencoder
from spinmeround.tasks.heads.embed import cached_detector, cached_embedder, recognition_path
from spinmeround.tasks.heads.encode import autoencoder_path
from spinmeround.tasks.pictures.photos import read_photo
from spinmeround.tasks.training.faces.plan import STAGE, VERSION, FaceShard
from spinmeround.tasks.training.faces.sources import Face, Read, open_container

_AT_ONCE = 32
"""Pictures embedded and encoded together."""


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A picture at the model's resolution, with its embedding or the crop that it is computed from."""

    name: str
    picture: UInt8[np.ndarray, "side side 3"]
    identity: Float32[np.ndarray, "512"] | None
    crop: UInt8[np.ndarray, "112 112 3"] | None


def make_faces(store: ArtifactStore, shard: FaceShard) -> Outcome:
    """Prepare a shard unless the store has it."""
    return store.make_once(
        STAGE,
        shard.key,
        lambda out: prepare_faces(shard, out),
        version=VERSION,
        params=shard.params,
        inputs=shard.inputs,
        weights=shard.weights,
        subject="faces",
    )


def prepare_faces(shard: FaceShard, out: Path) -> None:
    """Write the artifact of a shard. Raises ConfigError for a container that can't be read."""
    names: list[str] = []
    dropped: dict[str, str] = {}
    autoencoder = load_autoencoder(autoencoder_path(shard.encode))
    with (
        open_container(shard.container) as read,
        (out / "identities.f32").open("wb") as identities,
        (out / "latents.f16").open("wb") as latents,
    ):
        for start in range(0, len(shard.faces), _AT_ONCE):
            block = _read_block(shard, shard.faces[start : start + _AT_ONCE], read, dropped)
            if not block:
                continue
            embedded = _identities(shard, block)
            images = as_images(np.stack([each.picture for each in block]))
            encoded = encode_batches(autoencoder, images, shard.encode.batch).numpy().astype("<f2")
            check_arrays(f"faces {shard.container.name}", {"identity": embedded, "latents": encoded})
            identities.write(embedded.astype("<f4").tobytes())
            latents.write(encoded.tobytes())
            names += [each.name for each in block]
    shape = [] if not names else list(encoded.shape[1:])
    about = {"count": len(names), "shape": shape, "names": names, "dropped": dropped}
    (out / "faces.json").write_text(json_text(about, "faces", indent=None), encoding="utf-8")


def _read_block(shard: FaceShard, faces: tuple[Face, ...], read: Read, dropped: dict[str, str]) -> list[_Prepared]:
    """The pictures that can be used; the others are added to `dropped` with the reason."""
    found = []
    for face in faces:
        try:
            found.append(_read_face(shard, face, read))
        except SpinMeRoundError as error:
            dropped[face.name] = str(error).removeprefix(f"{face.name}: ")
    return found


def _read_face(shard: FaceShard, face: Face, read: Read) -> _Prepared:
    photo = read_photo(Path(face.name), square=True, data=read(face.name)).picture
    sized = photo.resize((shard.side, shard.side), Image.Resampling.LANCZOS) if photo.width != shard.side else photo
    identity = _given_identity(face.embedding, read(face.embedding)) if face.embedding else None
    crop = None if identity is not None else _crop(shard, face.name, photo)
    return _Prepared(name=face.name, picture=np.asarray(sized), identity=identity, crop=crop)


def _given_identity(name: str, data: bytes) -> Float32[np.ndarray, "512"]:
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy raises unrelated errors
        raise ConfigError(f"{name}: expected a .npy file with {EMBEDDING_SIZE} numbers, found another file") from error
    length = float(np.linalg.norm(values)) if getattr(values, "shape", None) == (EMBEDDING_SIZE,) else 0.0
    if not np.isfinite(length) or length == 0:
        raise ConfigError(f"{name}: expected {EMBEDDING_SIZE} finite numbers, not all zero, found others")
    return np.asarray(values / length, np.float32)


def _crop(shard: FaceShard, name: str, photo: Image.Image) -> UInt8[np.ndarray, "112 112 3"]:
    """The picture as ArcFace reads it."""
    if shard.detector is None:
        return np.asarray(photo.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.LANCZOS))
    pixels = np.asarray(photo)
    face = cached_detector(shard.detector, shard.embed.detection).largest(pixels)
    if face is None:
        raise ConfigError(f"{name}: expected a face, the detector finds none")
    return np.asarray(align_faces(pixels[None], face.landmarks[None])[0])


def _identities(shard: FaceShard, block: list[_Prepared]) -> Float32[np.ndarray, "picture 512"]:
    crops = [each.crop for each in block if each.crop is not None]
    embedded = iter(cached_embedder(recognition_path(shard.embed.recognition)).embed(np.stack(crops)) if crops else ())
    return np.stack([next(embedded) if each.identity is None else each.identity for each in block])
