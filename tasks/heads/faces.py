"""Faces in the previews of a head: where a detector finds them, and how like the frontal face each is."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.alignment import align_faces
from spinmeround.models.identity.detection import FaceDetector
from spinmeround.models.identity.face_heatmap import HeatmapFaceFinder
from spinmeround.models.identity.faces import DetectedFace, FaceFinder
from spinmeround.models.identity.params import DetectionParams
from spinmeround.models.screening.faces import SeenFaces
from spinmeround.storage.records import Rendering
from spinmeround.storage.weights import check_onnx
from spinmeround.tasks.heads.embed import cached_embedder

COUNTED = 0.5
"""Lowest score of a face that counts as one."""


@lru_cache(maxsize=2)
def cached_finder(path: Path, embedded: bool, params: DetectionParams) -> FaceFinder:
    """The detector in a file, loaded once per process."""
    check_onnx(path)
    return HeatmapFaceFinder(path) if embedded else FaceDetector(path, params)


def seen_faces(finder: FaceFinder, previews: Rendering, cameras: Cameras, recognition: Path | None) -> SeenFaces:
    """What `finder` finds in the previews; `recognition` is the ONNX file of a recognition network."""
    side = previews.rgb.shape[1]
    found = [finder.find(image) for image in previews.rgb]
    best = [faces[0] if faces else None for faces in found]
    return SeenFaces(
        confidence=np.array([face.score if face else 0.0 for face in best], np.float32),
        count=np.array([sum(face.score >= COUNTED for face in faces) for faces in found]),
        likeness=_likeness(previews, cameras, best, recognition),
        box=np.array([face.box / side if face else np.full(4, np.nan) for face in best], np.float32),
    )


def frontal_landmarks(finder: FaceFinder, previews: Rendering, cameras: Cameras) -> Float32[np.ndarray, "5 3"] | None:
    """Landmarks of the best face of the frontal preview in the world frame, by its depth.

    None without a face, or where a landmark lies beside the head.
    """
    view = int(np.abs((cameras.azimuth_deg + 180.0) % 360.0 - 180.0).argmin())
    faces = finder.find(previews.rgb[view])
    if not faces:
        return None
    side = previews.rgb.shape[1]
    column, row = np.clip(np.rint(faces[0].landmarks), 0, side - 1).astype(int).T
    pixels = np.concatenate([(faces[0].landmarks + 0.5) / side, np.ones((5, 1))], axis=1)
    in_camera = pixels @ np.linalg.inv(cameras.intrinsics[view].astype(np.float64)).T
    in_camera *= previews.depth[view][row, column, None]
    world = in_camera @ cameras.cam2world[view, :3, :3].T + cameras.cam2world[view, :3, 3]
    return world.astype(np.float32) if np.isfinite(world).all() else None


def _likeness(
    previews: Rendering, cameras: Cameras, best: list[DetectedFace | None], recognition: Path | None
) -> Float32[np.ndarray, " view"]:
    """Cosine of each preview's best face with that of the frontal preview; NaN where one is missing."""
    likeness = np.full(len(best), np.nan, np.float32)
    front = int(np.abs((cameras.azimuth_deg + 180.0) % 360.0 - 180.0).argmin())
    views = [view for view, face in enumerate(best) if face is not None]
    if recognition is None or best[front] is None:
        return likeness
    landmarks = np.stack([face.landmarks for face in best if face is not None])
    embeddings = cached_embedder(recognition).embed(align_faces(previews.rgb[views], landmarks))
    likeness[views] = embeddings @ embeddings[views.index(front)]
    return likeness
