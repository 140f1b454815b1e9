"""Score: measurements that separate defective from clean heads, before the cost of rendering all views.

The evidence is the previews of the sample stage, a coarse density grid and, if landmarks and a recognition network
are available, the similarity of the back of the head to its face. `models.screening` defines the scores. Limits
belong to the screen stage, so new limits do not recompute scores. A generator's defect label is never read here.

Artifact: `scores.json` {score name: number, or null if it could not be measured}.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.numbers import json_text
from spinmeround.storage.records import Rendering
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.embed import cached_embedder, recognition_path
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.sample_files import load_identity, load_landmarks, load_previews
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections

HALF_TURN = np.array([-1.0, 1.0, -1.0], np.float32)
"""Half a turn about the world's y axis: maps the face to the back of the head."""


class ScoreParams(StageParams):
    """The evidence that scores are computed from."""

    level: float = Field(10.0, gt=0.0, description="Density at the surface, as mesh.level")
    cells: int = Field(126, ge=32, le=512, multiple_of=2, description="Cells of the density grid along each axis")
    trim_border: float = Field(0.0, ge=0.0, lt=0.5, description="Share of the grid emptied at each face of the cube")
    trim_top: float | None = Field(
        None, ge=0.0, lt=0.5, description="Share of the grid emptied at the top face (+y); default: trim_border"
    )
    recognition: str = Field(
        "embedded", description="'embedded', the path of an ArcFace ONNX file, or 'none' to omit this score"
    )


class ScoreSections(StageSections):
    """Sections that the score stage reads."""

    generator: GeneratorConfig
    score: ScoreParams


def load_scores(folder: Path) -> dict[str, float | None]:
    """The scores in a score artifact."""
    scores: dict[str, float | None] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return scores


def back_similarity(
    previews: Rendering, cameras: Cameras, landmarks: Float32[np.ndarray, "5 3"], network: Path
) -> float | None:
    """Cosine similarity of the face's embedding to that of the same place on the back; None if a view clips it."""
    from spinmeround.models.identity.alignment import align_faces, landmarks_inside, project_landmarks

    resolution = previews.rgb.shape[1]
    crops = []
    for azimuth, places in ((0.0, landmarks), (180.0, landmarks * HALF_TURN)):
        view = [int(np.abs((cameras.azimuth_deg - azimuth + 180.0) % 360.0 - 180.0).argmin())]
        pixels = project_landmarks(cameras[view], places, resolution)
        if not landmarks_inside(pixels, resolution).all():
            return None
        crops.append(align_faces(previews.rgb[view], pixels))
    front, back = cached_embedder(network).embed(np.concatenate(crops))
    return float(front @ back / np.maximum(np.linalg.norm(front) * np.linalg.norm(back), 1e-12))


def trimmed(density: Float32[np.ndarray, "x y z"], params: ScoreParams) -> Float32[np.ndarray, "x y z"]:
    """The density with the border emptied that the mesh stage empties too (`mesh.trim_border`, `mesh.trim_top`)."""
    side = int(params.trim_border * len(density))
    top = side if params.trim_top is None else int(params.trim_top * len(density))
    end = len(density) - side
    kept = (slice(side, end), slice(side, len(density) - top), slice(side, end))
    emptied = np.full_like(density, min(float(density.min()), 0.0))
    emptied[kept] = density[kept]
    return emptied


def _recognition_fingerprint(sections: ScoreSections) -> str:
    network = sections.score.recognition
    return "" if network == "none" else fingerprint(recognition_path(network))


def _make(job: StageJob[ScoreSections]) -> None:
    from spinmeround.models.screening.evidence import Evidence, refined_density_grid
    from spinmeround.models.screening.measure import all_scores

    params, generator, sample = job.sections.score, generator_of(job.sections.generator), job.inputs["sample"]
    identity, landmarks, previews = load_identity(sample), load_landmarks(sample), load_previews(sample)
    rendering, cameras = previews.rendering, previews.cameras
    similarity = None
    if params.recognition != "none" and landmarks is not None:
        similarity = back_similarity(rendering, cameras, landmarks, recognition_path(params.recognition))
    density = refined_density_grid(
        lambda points: generator.density(identity, points), generator.box_warp, params.cells, params.level
    )
    evidence = Evidence(
        density=trimmed(density, params),
        level=params.level,
        box_warp=generator.box_warp,
        previews=rendering,
        cameras=cameras,
        back_similarity=similarity,
    )
    (job.out / "scores.json").write_text(json_text(all_scores(evidence), f"score {job.head.id}"), encoding="utf-8")


SCORE = Stage(
    name="score",
    version=2,
    sections_type=ScoreSections,
    inputs=("sample",),
    gated=False,
    weights=_recognition_fingerprint,
    make=_make,
)
