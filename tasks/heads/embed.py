"""Embed: the ArcFace identity of a head, from its frontal views.

Artifact: `identity.npz` with identity (512,), the L2-normalised mean over the accepted views; identity_views
(view, 512), NaN where a view is not accepted; frontal_views and views_without_face, how many were looked at and how
many of them were skipped since they show no face; landmarks, "generator" or "detector".
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from pydantic import Field

from spinmeround.models.identity.alignment import align_faces, project_landmarks
from spinmeround.models.identity.arcface import ArcFaceEmbedder, embed_views
from spinmeround.models.identity.detection import FaceDetector
from spinmeround.models.identity.params import DetectionParams, FrontalViews
from spinmeround.storage.dataset import read_pictures
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import embedded_weights, fingerprint
from spinmeround.tasks.stage import Stage, StageJob, StageParams
from spinmeround.tasks.weights.insightface_packs import open_pack


class EmbedParams(StageParams):
    """Which views count as frontal, the recognition network, and how faces are found."""

    frontal: FrontalViews = Field(FrontalViews(), description="The views that are embedded")
    recognition: str = Field(
        "embedded", description="'embedded', or the path of an ArcFace ONNX file or of an InsightFace pack with one"
    )
    landmarks: Literal["auto", "generator", "detector"] = Field(
        "auto", description="Whose landmarks faces are aligned by; auto: the generator's where it knows them"
    )
    pack: str = Field("", description="Folder of an InsightFace pack, whose detector finds faces")
    detection: DetectionParams = DetectionParams()


def recognition_path(recognition: str) -> Path:
    """The ONNX file of a recognition network: 'embedded', its own path, or a pack that has one."""
    if recognition == "embedded":
        return embedded_weights("recognition")
    path = Path(recognition)
    return open_pack(path).only_recognition if path.is_dir() else path


@lru_cache(maxsize=2)
def cached_embedder(path: Path) -> ArcFaceEmbedder:
    """The recognition network in a file, loaded once a process."""
    return ArcFaceEmbedder(path)


@lru_cache(maxsize=2)
def cached_detector(path: Path, params: DetectionParams) -> FaceDetector:
    """The detector in a file, loaded once a process."""
    return FaceDetector(path, params)


def detector_path(params: EmbedParams) -> Path | None:
    """The file of the detector, None where the profile wants or names none. Raises ConfigError for a broken pack."""
    if params.landmarks == "generator" or (params.landmarks == "auto" and not params.pack):
        return None
    if not params.pack:
        raise ConfigError("embed.pack: expected the folder of an InsightFace pack, since embed.landmarks is 'detector'")
    return open_pack(Path(params.pack)).detector


def _weights(sections: Mapping[str, Any]) -> str:
    params = sections["embed"]
    recognition, detector = fingerprint(recognition_path(params.recognition)), detector_path(params)
    return recognition if detector is None else f"{recognition} detector {fingerprint(detector)}"


def _make(job: StageJob) -> None:
    params, cameras = job.sections["embed"], job.sections["views"].cameras()
    with np.load(job.inputs["sample"] / "identity.npz", allow_pickle=False) as arrays:
        known = arrays["landmarks"] if "landmarks" in arrays and params.landmarks != "detector" else None
    rgb = read_pictures(job.inputs["render"], "rgb")["rgb"]
    frontal = params.frontal.select(cameras)
    if known is not None:
        positions = project_landmarks(cameras, known, rgb.shape[1])
    else:
        positions = _detected(job.head.id, params, rgb, frontal)
    head = embed_views(cached_embedder(recognition_path(params.recognition)), rgb, positions, frontal)
    np.savez(
        job.out / "identity.npz",
        identity=head.identity,
        identity_views=head.views,
        frontal_views=int(frontal.sum()),
        views_without_face=head.without_face,
        landmarks="detector" if known is None else "generator",
    )


def _detected(
    head: str, params: EmbedParams, rgb: UInt8[np.ndarray, "view h w 3"], frontal: Bool[np.ndarray, " view"]
) -> Float32[np.ndarray, "view 5 2"]:
    """Landmarks of the largest face of each frontal view, NaN for the others and where there is none."""
    path = detector_path(params)
    if path is None:
        raise ConfigError(
            f"{head}: its generator knows no landmarks; expected a detector: name the folder of an InsightFace pack "
            "by embed.pack"
        )
    detector = cached_detector(path, params.detection)
    positions = np.full((len(rgb), 5, 2), np.nan, np.float32)
    for view in np.flatnonzero(frontal):
        if face := detector.largest(rgb[view]):
            positions[view] = face.landmarks
    return positions


def photo_identity(
    picture: UInt8[np.ndarray, "height width 3"], params: EmbedParams
) -> Float32[np.ndarray, "512"] | None:
    """The identity of a photo's largest face; None where the profile names no detector to find it by.

    Raises ValueError where the detector finds no face, ConfigError for a broken pack.
    """
    path = detector_path(params)
    if path is None:
        return None
    face = cached_detector(path, params.detection).largest(picture)
    if face is None:
        raise ValueError(
            "expected a photo with a face, the detector finds none (embed.detection.threshold "
            f"{params.detection.threshold}); cut it by 'spinmeround align', or say whose face it is with --identity"
        )
    embedding = cached_embedder(recognition_path(params.recognition)).embed(
        align_faces(picture[None], face.landmarks[None])
    )
    return np.asarray(embedding[0])


EMBED = Stage(
    name="embed", version=2, reads=("views", "embed"), inputs=("sample", "render"), weights=_weights, make=_make
)
