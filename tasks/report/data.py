"""What a report shows, as plain values: everything that `render_report` needs and nothing that it must look up.

Pictures are uint8, (..., height, width, 3), RGB composited on white; normals are encoded as on disk,
round((n + 1) / 2 * 255) in the world frame; angles are in degrees. The files behind it:

`history.json` of a training run, one entry a recorded step, in the order of the steps:
    {"runs": [{"name": "multi-view", "history": [{"step": 1, "loss": 0.93}, ...]}, ...]}
    (a bare list of {"step", "loss"} is one run named "training")

`evaluation.json` of an evaluation; a value that could not be computed is null and named in "missing":
    {"model": {"l2": 0.01, "psnr": 21.3, "ssim": 0.8, "identity_similarity": 0.7,
               "normal_angular_error_deg": 14.2, "lpips": null},
     "baselines": {"nearest_input_view": {...}, "mean_training_image": {...}},
     "missing": {"lpips": "why, in words"},
     "heads": [{"id": "procedural-000007", "metrics": {"psnr": 20.9, ...}}, ...]}

`pictures.npz` beside it, stacked over the shown test heads in the order of "heads" (it may hold fewer):
    input_rgb [head, m, H, W, 3] u8        input_azimuth_deg, input_elevation_deg [head, m] f32
    true_rgb, generated_rgb, true_normals, generated_normals [head, n, H, W, 3] u8
    azimuth_deg, elevation_deg [head, n] f32
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from spinmeround.tasks.dataset.publish import Counts


@dataclass(frozen=True, kw_only=True)
class HeadCard:
    """One head of a contact sheet: its pictures (front and back, or all previews) and what was said of it.

    `pictures` and `mask` are empty (no view) where nothing was rendered.
    """

    id: str
    pictures: UInt8[np.ndarray, "picture height width 3"]
    mask: UInt8[np.ndarray, "picture height width"]
    captions: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A head whose stage failed for good, with the error's own words."""

    id: str
    stage: str
    reason: str
    attempts: int


@dataclass(frozen=True, kw_only=True)
class OrbitHead:
    """All views of one head, for the viewer; views are in the order of the report's angles."""

    id: str
    rgb: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]
    normals: UInt8[np.ndarray, "view height width 3"]


@dataclass(frozen=True, kw_only=True)
class Orbit:
    """The heads of the viewer and the angles that they share; `side` is the dataset's own, in pixels."""

    side: int
    azimuth_deg: Float[np.ndarray, " view"]
    elevation_deg: Float[np.ndarray, " view"]
    heads: tuple[OrbitHead, ...]


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """The recorded losses of one training run.

    `phases` are the names and last steps of its parts, in order, where it has several: losses of two phases
    are not to be compared, nor smoothed together.
    """

    name: str
    step: Float[np.ndarray, " record"]
    loss: Float[np.ndarray, " record"]
    phases: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class NovelViews:
    """What the model made of one held-out head, beside the truth."""

    id: str
    input_rgb: UInt8[np.ndarray, "given height width 3"]
    input_azimuth_deg: Float[np.ndarray, " given"]
    input_elevation_deg: Float[np.ndarray, " given"]
    generated_rgb: UInt8[np.ndarray, "view height width 3"]
    true_rgb: UInt8[np.ndarray, "view height width 3"]
    generated_normals: UInt8[np.ndarray, "view height width 3"]
    true_normals: UInt8[np.ndarray, "view height width 3"]
    azimuth_deg: Float[np.ndarray, " view"]
    elevation_deg: Float[np.ndarray, " view"]
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The metrics of the model and of the baselines, by name; None where `missing` says why."""

    model: Mapping[str, float | None]
    baselines: Mapping[str, Mapping[str, float | None]]
    missing: Mapping[str, str]
    heads: int


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """What one stage of the workflow did in this run, and the parameters that enter its keys."""

    name: str
    version: int | None
    made: int
    reused: int
    seconds: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows. Parts that a run does not have yet are None or empty and are left out."""

    run: str
    data_date: str
    """Day (ISO 8601) on which the newest data in the report was made; never the time of rendering."""
    counts: Counts
    digests: Mapping[str, str]
    """Digests and fingerprints by name; "dataset" is the one in the header."""
    kept: tuple[HeadCard, ...] = ()
    dropped: tuple[HeadCard, ...] = ()
    rescued: tuple[HeadCard, ...] = ()
    """Heads that a person kept; their reasons are those for which the screen would have dropped them."""
    quarantined: tuple[Quarantined, ...] = ()
    orbit: Orbit | None = None
    curves: tuple[LossCurve, ...] = ()
    novel_views: tuple[NovelViews, ...] = ()
    evaluation: Evaluation | None = None
    stages: tuple[StageRow, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter of the profile, by section."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Licence notes: of what, and the terms in words."""
