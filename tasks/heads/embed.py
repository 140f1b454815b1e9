"""Embed: the ArcFace identity of a head, and of each of its views that shows part of the face.

Artifact: `identity.npz` with identity (512,), the L2-normalised mean over the accepted frontal views; identity_views
(view, 512), NaN for views without an embedding; frontal_views, the number of frontal views; views_without_face, the
number of those skipped because they show no face; landmarks, "generator" or "detector".
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from pydantic import Field

from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG, ViewGrid
from spinmeround.models.identity.params import DetectionParams, ViewRange
from spinmeround.storage.dataset import read_pictures
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import check_onnx, embedded_weights, fingerprint
from spinmeround.tasks.heads.sample_files import load_landmarks
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections
from spinmeround.tasks.weights.insightface_packs import open_pack

if TYPE_CHECKING:
    from spinmeround.models.identity.arcface import ArcFaceEmbedder
    from spinmeround.models.identity.detection import FaceDetector


class EmbedParams(StageParams):
    """Frontal views, recognition network and face detection."""

    frontal: ViewRange = Field(ViewRange(), description="Views whose mean embedding is the identity of the head")
    facing: ViewRange = Field(
        ViewRange(max_azimuth_deg=FACE_VISIBLE_DEG, max_elevation_deg=90.0),
        description="Views that show part of the face; each has an embedding of its own",
    )
    recognition: str = Field(
        "embedded", description="'embedded', or the path of an ArcFace ONNX file or of an InsightFace pack with one"
    )
    landmarks: Literal["auto", "generator", "detector"] = Field(
        "auto", description="Source of the landmarks for alignment. auto: the generator if it knows them, else detector"
    )
    pack: str = Field("", description="Folder of an InsightFace pack; its detector finds faces")
    detection: DetectionParams = DetectionParams()


class EmbedSections(StageSections):
    """Sections that the embed stage reads."""

    views: ViewGrid
    embed: EmbedParams


@dataclass(frozen=True, kw_only=True)
class HeadEmbeddings:
    """The embeddings of a head, as `records.HeadArrays` has them."""

    identity: Float32[np.ndarray, " 512"]
    identity_views: Float32[np.ndarray, "view 512"]


def load_embeddings(folder: Path) -> HeadEmbeddings:
    """The embeddings in an embed artifact."""
    with np.load(folder / "identity.npz", allow_pickle=False) as arrays:
        return HeadEmbeddings(identity=arrays["identity"], identity_views=arrays["identity_views"])


def recognition_path(recognition: str) -> Path:
    """The ONNX file of a recognition network: 'embedded', its own path, or a pack that contains one."""
    if recognition == "embedded":
        return embedded_weights("recognition")
    path = Path(recognition)
    return open_pack(path).only_recognition if path.is_dir() else path


@lru_cache(maxsize=2)
def cached_embedder(path: Path) -> "ArcFaceEmbedder":
    """The recognition network in a file, loaded once per process."""
    from spinmeround.models.identity.arcface import ArcFaceEmbedder

    check_onnx(path)
    return ArcFaceEmbedder(path)


@lru_cache(maxsize=2)
def cached_detector(path: Path, params: DetectionParams) -> "FaceDetector":
    """The detector in a file, loaded once per process."""
    from spinmeround.models.identity.detection import FaceDetector

    check_onnx(path)
    return FaceDetector(path, params)


def detector_path(params: EmbedParams) -> Path | None:
    """The detector's file; None if the profile needs or names none. Raises ConfigError for a broken pack."""
    if params.landmarks == "generator" or (params.landmarks == "auto" and not params.pack):
        return None
    if not params.pack:
        raise ConfigError("embed.pack: expected the folder of an InsightFace pack, since embed.landmarks is 'detector'")
    return open_pack(Path(params.pack)).detector


def _fingerprint(sections: EmbedSections) -> str:
    params = sections.embed
    recognition, detector = fingerprint(recognition_path(params.recognition)), detector_path(params)
    return recognition if detector is None else f"{recognition} detector {fingerprint(detector)}"


def _on_gpu(sections: EmbedSections) -> bool:
    from spinmeround.models.identity.onnx_sessions import gpu_available

    return gpu_available()


def _make(job: StageJob[EmbedSections]) -> None:
    from spinmeround.models.identity.alignment import project_landmarks
    from spinmeround.models.identity.arcface import embed_views

    params, cameras = job.sections.embed, job.sections.views.cameras()
    known = None if params.landmarks == "detector" else load_landmarks(job.inputs["sample"])
    rgb = read_pictures(job.inputs["render"], "rgb")["rgb"]
    frontal, facing = params.frontal.select(cameras), params.facing.select(cameras)
    if known is not None:
        positions = project_landmarks(cameras, known, rgb.shape[1])
    else:
        positions = _detected(job.head.id, params, rgb, frontal | facing)
    head = embed_views(cached_embedder(recognition_path(params.recognition)), rgb, positions, frontal, facing)
    np.savez(
        job.out / "identity.npz",
        identity=head.identity,
        identity_views=head.views,
        frontal_views=int(frontal.sum()),
        views_without_face=head.without_face,
        landmarks="detector" if known is None else "generator",
    )


def _detected(
    head: str, params: EmbedParams, rgb: UInt8[np.ndarray, "view h w 3"], facing: Bool[np.ndarray, " view"]
) -> Float32[np.ndarray, "view 5 2"]:
    path = detector_path(params)
    if path is None:
        raise ConfigError(
            f"{head}: its generator knows no landmarks; expected a detector: set embed.pack to the folder of an "
            "InsightFace pack"
        )
    return detected_landmarks(cached_detector(path, params.detection), rgb, facing)


def detected_landmarks(
    detector: "FaceDetector", rgb: UInt8[np.ndarray, "view h w 3"], facing: Bool[np.ndarray, " view"]
) -> Float32[np.ndarray, "view 5 2"]:
    """Landmarks of the largest face of each facing view, in pixels; NaN for other views and views without a face."""
    positions = np.full((len(rgb), 5, 2), np.nan, np.float32)
    for view in np.flatnonzero(facing):
        if face := detector.largest(rgb[view]):
            positions[view] = face.landmarks
    return positions


def photo_identity(
    picture: UInt8[np.ndarray, "height width 3"], params: EmbedParams
) -> Float32[np.ndarray, "512"] | None:
    """The identity of a photo's largest face; None if the profile names no detector.

    Raises ConfigError if the detector finds no face, and for a broken pack.
    """
    from spinmeround.models.identity.alignment import align_faces

    path = detector_path(params)
    if path is None:
        return None
    face = cached_detector(path, params.detection).largest(picture)
    if face is None:
        raise ConfigError(
            "expected a photo with a face, the detector finds none (embed.detection.threshold "
            f"{params.detection.threshold}); crop it with 'spinmeround align', or give an identity with --identity"
        )
    embedding = cached_embedder(recognition_path(params.recognition)).embed(
        align_faces(picture[None], face.landmarks[None])
    )
    return np.asarray(embedding[0])


EMBED = Stage(
    name="embed",
    version=3,
    sections_type=EmbedSections,
    inputs=("sample", "render"),
    weights=_fingerprint,
    gpu=_on_gpu,
    make=_make,
)
