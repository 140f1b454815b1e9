"""Score: numbers that tell a spoilt head from a sound one, before its 125 views are paid for.

The evidence is what the sample stage made (a ring of small previews), a coarse density grid, and where
landmarks and a recognition network are there, whether the back of the head is recognised as its face. The
scores are those of `models.screening`; what they mean for a head is the screen stage's to say, so other
limits don't measure anything again. A head's defect label, where its generator has one, never gets here.

Artifact: `scores.json` {score name: number, or null where it could not be had}.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.alignment import align_faces, landmarks_inside, project_landmarks
from spinmeround.models.screening.evidence import Evidence, refined_density_grid
from spinmeround.models.screening.scores import all_scores
from spinmeround.storage.records import Rendering
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.embed import cached_embedder, recognition_path
from spinmeround.tasks.heads.generator import generator_of, load_identity
from spinmeround.tasks.stage import Stage, StageJob, StageParams

TURN_ROUND = np.array([-1.0, 1.0, -1.0], np.float32)
"""Half a turn about the world's y axis: takes a face to the back of the head."""


class ScoreParams(StageParams):
    """The evidence that scores are taken from."""

    level: float = Field(10.0, gt=0.0, description="Density of the surface, as mesh.level is for the mesh")
    cells: int = Field(126, ge=32, le=512, multiple_of=2, description="Cells of the coarse density grid along an axis")
    trim_border: float = Field(0.0, ge=0.0, lt=0.5, description="Share of the grid emptied at each face of the cube")
    trim_top: float | None = Field(
        None, ge=0.0, lt=0.5, description="Share emptied at the top face (+y); as trim_border where it is not given"
    )
    recognition: str = Field(
        "embedded", description="'embedded', the path of an ArcFace ONNX file, or 'none' to leave that score out"
    )


def load_scores(folder: Path) -> dict[str, float | None]:
    """The scores in a score artifact."""
    scores: dict[str, float | None] = json.loads((folder / "scores.json").read_text())
    return scores


def back_similarity(
    previews: Rendering, cameras: Cameras, landmarks: Float32[np.ndarray, "5 3"], network: Path
) -> float | None:
    """Cosine between the embeddings of the face and of its place on the back; None where a view cuts it off."""
    resolution = previews.rgb.shape[1]
    crops = []
    for azimuth, places in ((0.0, landmarks), (180.0, landmarks * TURN_ROUND)):
        view = [int(np.abs((cameras.azimuth_deg - azimuth + 180.0) % 360.0 - 180.0).argmin())]
        pixels = project_landmarks(cameras[view], places, resolution)
        if not landmarks_inside(pixels, resolution).all():
            return None
        crops.append(align_faces(previews.rgb[view], pixels))
    front, back = cached_embedder(network).embed(np.concatenate(crops))
    return float(front @ back / np.maximum(np.linalg.norm(front) * np.linalg.norm(back), 1e-12))


def trimmed(density: Float32[np.ndarray, "x y z"], params: ScoreParams) -> Float32[np.ndarray, "x y z"]:
    """The density with the border emptied that the mesh will not have either (`mesh.trim_border`, `mesh.trim_top`)."""
    side = int(params.trim_border * len(density))
    top = side if params.trim_top is None else int(params.trim_top * len(density))
    end = len(density) - side
    kept = (slice(side, end), slice(side, len(density) - top), slice(side, end))
    emptied = np.full_like(density, min(float(density.min()), 0.0))
    emptied[kept] = density[kept]
    return emptied


def _weights(sections: Mapping[str, Any]) -> str:
    network = sections["score"].recognition
    return "" if network == "none" else fingerprint(recognition_path(network))


def _make(job: StageJob) -> None:
    params, generator = job.sections["score"], generator_of(job.sections)
    identity = load_identity(job.inputs["sample"])
    with np.load(job.inputs["sample"] / "identity.npz", allow_pickle=False) as arrays:
        landmarks = arrays.get("landmarks")
    with np.load(job.inputs["sample"] / "preview.npz", allow_pickle=False) as arrays:
        previews = Rendering(rgb=arrays["rgb"], mask=arrays["mask"], depth=arrays["depth"])
        cameras = Cameras(
            cam2world=arrays["cam2world"],
            intrinsics=arrays["intrinsics"],
            azimuth_deg=arrays["azimuth"],
            elevation_deg=arrays["elevation"],
        )
    similarity = None
    if params.recognition != "none" and landmarks is not None:
        similarity = back_similarity(previews, cameras, landmarks, recognition_path(params.recognition))
    density = refined_density_grid(
        lambda points: generator.density(identity, points), generator.box_warp, params.cells, params.level
    )
    evidence = Evidence(
        density=trimmed(density, params),
        level=params.level,
        box_warp=generator.box_warp,
        previews=previews,
        cameras=cameras,
        back_similarity=similarity,
    )
    (job.out / "scores.json").write_text(json.dumps(all_scores(evidence), indent=1))


SCORE = Stage(
    name="score",
    version=2,
    reads=("generator", "score"),
    inputs=("sample",),
    gated=False,
    weights=_weights,
    make=_make,
)
