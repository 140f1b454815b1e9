"""Screen: keep or drop a head on cheap evidence, before its 125 views are paid for.

The evidence is what the sample stage made (a ring of small previews) and a coarse density grid. Each
score is one number with a limit in `ScreenParams`; a head is dropped when a score passes its limit, and
the reason is the score's name. A head's defect label, where its generator has one, never gets here.

Artifact: `verdict.json` {"keep": bool, "reasons": [score name], "scores": {score name: number}}.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from pydantic import Field
from scipy import ndimage
from skimage import morphology

from models.geometry.meshes import MeshParams, MeshStatistics, density_grid, mesh_statistics
from tasks.generators import generator_of, load_identity
from tasks.stage import Stage, StageJob, StageParams


class ScreenParams(StageParams):
    """Limits of the scores; a head at a limit is kept."""

    level: float = Field(10.0, gt=0.0, description="Density of the surface")
    resolution: int = Field(64, ge=16, le=256, description="Side of the coarse density grid")
    stray_volume: float = Field(1e-4, ge=0.0, le=1.0, description="Largest share of volume apart from the main piece")
    cavity_volume: float = Field(1e-3, ge=0.0, le=1.0, description="Largest share of volume that is closed cavities")
    clipped_volume: float = Field(0.0, ge=0.0, le=1.0, description="Largest share of the cube's faces that is inside")
    silhouette_holes: float = Field(0.01, ge=0.0, le=1.0, description="Largest share of a silhouette that is holes")
    silhouette_spikes: float = Field(0.025, ge=0.0, le=1.0, description="Largest share of a silhouette that is thin")
    depth_to_width: tuple[float, float] = Field(
        (1.0, 1.5), description="Least and largest ratio of the side silhouette's width to the front one's"
    )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the scores look at: the coarse grid's occupancy, [x, y, z], its mesh, the previews round the orbit."""

    mesh: MeshStatistics
    inside: Bool[np.ndarray, "x y z"]
    mask: UInt8[np.ndarray, "view height width"]
    azimuth_deg: Float32[np.ndarray, " view"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Keep or drop, why, and the numbers behind it."""

    keep: bool
    reasons: tuple[str, ...]
    scores: dict[str, float]


def stray_volume(evidence: Evidence) -> float:
    """Share of the volume that the mesh's pieces other than the largest enclose; 1 where there is no piece."""
    pieces = [volume for volume in evidence.mesh.piece_volumes if volume > 0]
    return 1.0 - pieces[0] / sum(pieces) if pieces else 1.0


def cavity_volume(evidence: Evidence) -> float:
    """Volume of closed cavities inside the head, as a share of the volume of its pieces."""
    volumes = evidence.mesh.piece_volumes
    return -sum(v for v in volumes if v < 0) / max(sum(v for v in volumes if v > 0), 1e-12)


def clipped_volume(evidence: Evidence) -> float:
    """Share of the cube's faces that the head runs into, of five: a neck may run out below.

    A face is the layer of samples next to the outermost one, where a generator that closes its surface at
    the cube's edge still shows what it cut off.
    """
    inside = evidence.inside
    faces = [inside[1], inside[-2], inside[:, -2], inside[:, :, 1], inside[:, :, -2]]
    return float(np.mean([face.mean() for face in faces]))


def silhouette_holes(evidence: Evidence) -> float:
    """Largest share of a preview's filled silhouette that is background enclosed by the head."""
    shares = []
    for mask in evidence.mask >= 128:
        filled = ndimage.binary_fill_holes(mask)
        shares.append((filled & ~mask).sum() / max(filled.sum(), 1))
    return float(max(shares))


def silhouette_spikes(evidence: Evidence) -> float:
    """Largest share of a preview's silhouette that opening by a disk of a 32nd of the side removes."""
    disk = morphology.disk(max(1, evidence.mask.shape[-1] // 32))
    shares = []
    for mask in evidence.mask >= 128:
        padded = np.pad(mask, disk.shape[0], mode="edge")
        opened = ndimage.binary_opening(padded, disk)
        shares.append((padded & ~opened).sum() / max(padded.sum(), 1))
    return float(max(shares))


def depth_to_width(evidence: Evidence) -> float:
    """Widest row of the side silhouettes over the widest row of the frontal one."""

    def widest(azimuth: float) -> int:
        offset = np.abs((evidence.azimuth_deg - azimuth + 180) % 360 - 180)
        rows = (evidence.mask[int(offset.argmin())] >= 128)[: evidence.mask.shape[1] * 3 // 4]
        return max(int(rows.sum(axis=1).max()), 1)

    return widest(90.0) / widest(0.0)


SCORES: tuple[Callable[[Evidence], float], ...] = (
    stray_volume,
    cavity_volume,
    clipped_volume,
    silhouette_holes,
    silhouette_spikes,
    depth_to_width,
)


def screen(evidence: Evidence, params: ScreenParams) -> Verdict:
    """All scores of a head, and the verdict under the limits of `params`."""
    scores = {score.__name__: score(evidence) for score in SCORES}
    reasons = []
    for name, value in scores.items():
        limit = getattr(params, name)
        least, most = limit if isinstance(limit, tuple) else (-np.inf, limit)
        if not least <= value <= most:
            reasons.append(name)
    return Verdict(keep=not reasons, reasons=tuple(reasons), scores=scores)


def load_verdict(folder: Path) -> Verdict:
    """The verdict in a screen artifact."""
    verdict = json.loads((folder / "verdict.json").read_text())
    return Verdict(keep=verdict["keep"], reasons=tuple(verdict["reasons"]), scores=verdict["scores"])


def _make(job: StageJob) -> None:
    params, generator = job.sections["screen"], generator_of(job.sections)
    identity = load_identity(job.inputs["sample"])
    grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, params.resolution)
    with np.load(job.inputs["sample"] / "preview.npz", allow_pickle=False) as preview:
        evidence = Evidence(
            mesh=mesh_statistics(
                grid, generator.box_warp, MeshParams(level=params.level, resolution=params.resolution)
            ),
            inside=grid > params.level,
            mask=preview["mask"],
            azimuth_deg=preview["azimuth"],
        )
    verdict = screen(evidence, params)
    (job.out / "verdict.json").write_text(
        json.dumps({"keep": verdict.keep, "reasons": verdict.reasons, "scores": verdict.scores}, indent=1)
    )


SCREEN = Stage(name="screen", version=1, reads=("generator", "screen"), inputs=("sample",), gated=False, make=_make)
