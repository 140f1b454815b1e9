"""Score: measurements that separate defective from clean heads, before the cost of rendering all views.

The evidence is the previews of the sample stage, a coarse density grid and, where their weights are available, what a
face detector and a recognition network find in the previews and how far the head lies from a population of heads.
`models.screening` defines the scores. Limits belong to the screen stage, so new limits do not recompute scores. A
generator's defect label is never read here.

Artifact: `scores.json` {score name: number, or null if it could not be measured}; `evidence.npz` with an image over the
previews for each map of `models.screening.maps` that is not blank (`map.<name>`, uint8) and the head on the grid of
`models.screening.grid` (`unwrapped`, float16, and which of it is `shown`), from which populations are fitted.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.params import DetectionParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.numbers import json_text
from spinmeround.storage.records import Rendering
from spinmeround.storage.weights import embedded_weights, fingerprint
from spinmeround.tasks.heads.embed import cached_embedder, recognition_path
from spinmeround.tasks.heads.generator import generator_of, generator_on_gpu
from spinmeround.tasks.heads.population import population_generator, read_population
from spinmeround.tasks.heads.sample_files import load_identity, load_landmarks, load_previews
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections
from spinmeround.tasks.weights.insightface_packs import open_pack

if TYPE_CHECKING:
    from spinmeround.models.screening.evidence import Evidence

EVIDENCE = "evidence.npz"

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
    detector: str = Field(
        "auto",
        description="'embedded', the folder of an InsightFace pack, or 'none' to omit the scores of faces; 'auto': "
        "embedded for procedural heads, else none",
    )
    detection: DetectionParams = DetectionParams()
    inspector: str = Field(
        "auto",
        description="'embedded', a network of 'spinmeround screen inspector', or 'none' to omit its scores; 'auto': "
        "embedded for procedural heads, else none",
    )
    population: str = Field(
        "auto",
        description="'embedded', a file of 'spinmeround screen population', or 'none' to omit its scores; 'auto': "
        "embedded for procedural heads, else none",
    )


class ScoreSections(StageSections):
    """Sections that the score stage reads."""

    generator: GeneratorConfig
    score: ScoreParams


def load_scores(folder: Path) -> dict[str, float | None]:
    """The scores in a score artifact."""
    scores: dict[str, float | None] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return scores


def load_map(folder: Path, name: str) -> UInt8[np.ndarray, "view height width"] | None:
    """A map in a score artifact, by its name in `models.screening.maps`; None if the head has none or it is blank."""
    with np.load(folder / EVIDENCE, allow_pickle=False) as arrays:
        found: np.ndarray | None = arrays.get(f"map.{name}")
    return found


def load_unwrapped(folder: Path) -> Float32[np.ndarray, "channel row azimuth"]:
    """The unwrapped head in a score artifact."""
    with np.load(folder / EVIDENCE, allow_pickle=False) as arrays:
        cells, shown = np.asarray(arrays["unwrapped"], np.float32), arrays["shown"]
    return np.where(shown, cells, np.nan).astype(np.float32)


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


def kept_box(nodes: int, params: ScoreParams) -> tuple[slice, slice, slice]:
    """The part of a grid of this many nodes a side that the mesh stage keeps (`mesh.trim_border`, `mesh.trim_top`)."""
    side = int(params.trim_border * nodes)
    top = side if params.trim_top is None else int(params.trim_top * nodes)
    end = nodes - side
    return slice(side, end), slice(side, nodes - top), slice(side, end)


def trimmed(density: Float32[np.ndarray, "x y z"], params: ScoreParams) -> Float32[np.ndarray, "x y z"]:
    """The density with the border emptied that the mesh stage empties too."""
    kept = kept_box(len(density), params)
    emptied = np.full_like(density, min(float(density.min()), 0.0))
    emptied[kept] = density[kept]
    return emptied


def _chosen(value: str, generator: str) -> str:
    """The value of `detector`, `inspector` or `population` with 'auto' resolved."""
    return value if value != "auto" else ("embedded" if generator == "procedural" else "none")


def _detector_path(sections: ScoreSections) -> Path | None:
    chosen = _chosen(sections.score.detector, sections.generator.name)
    if chosen == "none":
        return None
    return embedded_weights("detector") if chosen == "embedded" else open_pack(Path(chosen)).detector


def _inspector_path(sections: ScoreSections) -> Path | None:
    chosen = _chosen(sections.score.inspector, sections.generator.name)
    if chosen == "none":
        return None
    return embedded_weights("inspector") if chosen == "embedded" else Path(chosen).expanduser()


def _population_path(sections: ScoreSections) -> Path | None:
    """The population of the profile. Raises ConfigError if it is missing or one of another generator's heads."""
    chosen = _chosen(sections.score.population, sections.generator.name)
    if chosen == "none":
        return None
    if chosen == "embedded":
        return embedded_weights("population")
    path = Path(chosen).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"score.population {path}: expected a file of 'spinmeround screen population', found none; fit one, or set "
            "score.population='none'"
        )
    if (of := population_generator(path)) != sections.generator.name:
        raise ConfigError(
            f"score.population {path}: expected heads of the generator {sections.generator.name!r}, found those of "
            f"{of!r}; fit one with 'spinmeround screen population', or set score.population='none'"
        )
    return path


def _fingerprints(sections: ScoreSections) -> str:
    """Fingerprints of all networks and of the population, each with its purpose."""
    network = sections.score.recognition
    paths = {
        "recognition": None if network == "none" else recognition_path(network),
        "detector": _detector_path(sections),
        "inspector": _inspector_path(sections),
        "population": _population_path(sections),
    }
    return " ".join(f"{name} {fingerprint(path)}" for name, path in paths.items() if path is not None)


def _evidence(job: StageJob[ScoreSections]) -> "Evidence":
    from spinmeround.models.screening.evidence import Evidence, refined_density_grid
    from spinmeround.tasks.heads.faces import cached_finder, frontal_landmarks, seen_faces
    from spinmeround.tasks.heads.inspection import cached_inspector

    params, generator, sample = job.sections.score, generator_of(job.sections.generator), job.inputs["sample"]
    identity, landmarks, previews = load_identity(sample), load_landmarks(sample), load_previews(sample)
    rendering, cameras = previews.rendering, previews.cameras
    recognition = None if params.recognition == "none" else recognition_path(params.recognition)
    faces, detector, similarity = None, _detector_path(job.sections), None
    if detector is not None:
        embedded = _chosen(params.detector, generator.name) == "embedded"
        finder = cached_finder(detector, embedded, params.detection)
        faces = seen_faces(finder, rendering, cameras, recognition)
        landmarks = frontal_landmarks(finder, rendering, cameras) if landmarks is None else landmarks
    if recognition is not None and landmarks is not None:
        similarity = back_similarity(rendering, cameras, landmarks, recognition)
    density = refined_density_grid(
        lambda points: generator.density(identity, points), generator.box_warp, params.cells, params.level
    )
    population, inspector = _population_path(job.sections), _inspector_path(job.sections)
    inspection = cached_inspector(inspector).inspect(rendering, cameras, generator.box_warp) if inspector else None
    return Evidence(
        density=trimmed(density, params),
        level=params.level,
        box_warp=generator.box_warp,
        previews=rendering,
        cameras=cameras,
        kept=kept_box(len(density), params),
        landmarks=landmarks,
        back_similarity=similarity,
        faces=faces,
        population=None if population is None else read_population(population).population,
        inspection=inspection,
    )


def _on_gpu(sections: ScoreSections) -> bool:
    return generator_on_gpu(sections.generator)


def _make(job: StageJob[ScoreSections]) -> None:
    from spinmeround.models.screening.maps import all_maps
    from spinmeround.models.screening.measure import all_scores
    from spinmeround.models.screening.unwrapping import unwrap

    evidence = _evidence(job)
    (job.out / "scores.json").write_text(json_text(all_scores(evidence), f"score {job.head.id}"), encoding="utf-8")
    maps = {f"map.{name}": values for name, values in all_maps(evidence).items() if values.any()}
    unwrapped = evidence.once(unwrap)
    shown = np.isfinite(unwrapped)
    cells = np.where(shown, unwrapped, 0.0).astype(np.float16)
    np.savez_compressed(job.out / EVIDENCE, unwrapped=cells, shown=shown, **maps)  # type: ignore[arg-type]  # as in sample_files


SCORE = Stage(
    name="score",
    version=4,
    sections_type=ScoreSections,
    inputs=("sample",),
    gated=False,
    weights=_fingerprints,
    gpu=_on_gpu,
    make=_make,
)
