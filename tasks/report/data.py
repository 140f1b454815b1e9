"""The data of a report, as plain values: all that `render_report` reads.

Pictures are uint8, (..., height, width, 3), RGB composited on white; normals are encoded as on disk,
round((n + 1) / 2 * 255) in the world frame; angles are in degrees. File formats:

`history.json` of a training run, one entry per recorded step, in order:
    {"runs": [{"name": "multi-view", "history": [{"step": 1, "loss": 0.93}, ...]}, ...]}
    (a plain list of {"step", "loss"} is one run named "training")

`evaluation.json` of an evaluation; a value that cannot be computed is null, with the reason in "missing":
    {"model": {"l2": 0.01, "psnr": 21.3, "ssim": 0.8, "identity_similarity": 0.7,
               "normal_angular_error_deg": 14.2, "lpips": null},
     "baselines": {"nearest_input_view": {...}, "mean_training_image": {...}},
     "methods": {"the name of another method": {...}},
     "intervals": {"model": {"l2": {"mean": 0.01, "low": 0.008, "high": 0.013, "heads": 8}, ...}, ...},
     "comparisons": {"nearest_input_view": {"l2": {"difference": {"mean": -0.02, ...}, "p_value": 0.01}, ...}, ...},
     "missing": {"lpips": "the reason"},
     "truth": {"consistency": 27.1},
     "heads": [{"id": "procedural-000007", "conditioning": [62], "targets": [3, ...],
                "scores": {"model": {"psnr": 20.9, ...}, "nearest_input_view": {...}, ...},
                "views": {"model": {"psnr": [21.0, null, ...], ...}, ...}}, ...]}
    ("views" has the values of each target, in the order of "targets")

`pictures.npz` next to it, stacked over the test heads in the order of "heads" (it may hold fewer):
    input_rgb [head, m, H, W, 3] u8        input_azimuth_deg, input_elevation_deg [head, m] f32
    true_rgb, generated_rgb, true_normals, generated_normals [head, n, H, W, 3] u8
        (without generated_normals if the model has no normals)
    azimuth_deg, elevation_deg [head, n] f32
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from spinmeround.tasks.dataset.publish import Counts


@dataclass(frozen=True, kw_only=True)
class HeadCard:
    """One head of a contact sheet: its pictures (front and back, or all previews), drop reasons and scores.

    `pictures` and `mask` hold no views if nothing was rendered.
    """

    id: str
    pictures: UInt8[np.ndarray, "picture height width 3"]
    mask: UInt8[np.ndarray, "picture height width"]
    captions: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A head with a stage that failed on every attempt; `reason` is the error message."""

    id: str
    stage: str
    reason: str
    attempts: int


@dataclass(frozen=True, kw_only=True)
class OrbitHead:
    """All views of one head for the viewer, in the order of the orbit's angles."""

    id: str
    rgb: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]
    normals: UInt8[np.ndarray, "view height width 3"]


@dataclass(frozen=True, kw_only=True)
class Orbit:
    """The heads of the viewer and their common view angles; `side` is the size of a dataset view in pixels."""

    side: int
    azimuth_deg: Float[np.ndarray, " view"]
    elevation_deg: Float[np.ndarray, " view"]
    heads: tuple[OrbitHead, ...]


@dataclass(frozen=True, kw_only=True)
class Sector:
    """The views of a range of |azimuth|: how many, and how many heads have none."""

    label: str
    views: int
    heads_without: int


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The directions of all views of all heads of a dataset, in degrees.

    Views of almost the same direction are one place, with their number in `number`. `gaps` are the parts of the sphere
    that are far from every view, by rows of elevation from -90 and columns of azimuth from -180; `near_share` is the
    share of the sphere's area that is no gap.
    """

    heads: int
    azimuth_deg: Float[np.ndarray, " place"]
    elevation_deg: Float[np.ndarray, " place"]
    number: Int[np.ndarray, " place"]
    gaps: Bool[np.ndarray, "row column"]
    near_share: float
    sectors: tuple[Sector, ...]


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """A picture of a head: `caption` says what it shows."""

    caption: str
    rgb: UInt8[np.ndarray, "height width 3"]
    mask: UInt8[np.ndarray, "height width"] | None = None


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Pictures side by side of heads with similar identities; `values` are named cosine similarities."""

    pictures: tuple[Pictured, ...]
    values: Mapping[str, float]
    remarkable: bool = False
    """Whether the similarity is what the section warns of."""


@dataclass(frozen=True, kw_only=True)
class Likenesses:
    """Cosine similarities between the identity embeddings of a dataset's heads.

    `nearest` counts heads by the similarity of the most similar other head, `pairs` all pairs of heads, in equal bins
    from -1 to 1. `same_head` is the median similarity of two views of one head, None if it is not known.
    """

    heads: int
    nearest: Int[np.ndarray, " bin"]
    pairs: Int[np.ndarray, " bin"]
    same_head: float | None
    closest: tuple[Likeness, ...]


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """The recorded losses of one training run.

    `phases` are the names and last steps of its phases, in order. Losses of different phases are not comparable
    and are not smoothed together.
    """

    name: str
    step: Float[np.ndarray, " record"]
    loss: Float[np.ndarray, " record"]
    phases: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class NovelViews:
    """Views that the model generated of one held-out head, with the ground truth."""

    id: str
    input_rgb: UInt8[np.ndarray, "given height width 3"]
    input_azimuth_deg: Float[np.ndarray, " given"]
    input_elevation_deg: Float[np.ndarray, " given"]
    generated_rgb: UInt8[np.ndarray, "view height width 3"]
    true_rgb: UInt8[np.ndarray, "view height width 3"]
    true_normals: UInt8[np.ndarray, "view height width 3"]
    azimuth_deg: Float[np.ndarray, " view"]
    elevation_deg: Float[np.ndarray, " view"]
    generated_normals: UInt8[np.ndarray, "view height width 3"] | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    rank: str = ""
    """What the head is an example of, as "best of 12 heads by PSNR"."""
    psnr: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """PSNR of each view by prediction, as far as it is known."""


@dataclass(frozen=True, kw_only=True)
class ViewValues:
    """One metric of all evaluated views of all heads, by prediction; NaN where a view has none."""

    metric: str
    azimuth_deg: Float[np.ndarray, " view"]
    values: Mapping[str, Float[np.ndarray, " view"]]


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """Metrics of the model, the baselines and other methods over `heads` held-out heads.

    `missing` gives the reason for a None. `intervals` and `p_values`, of the paired test with the model, are by
    prediction and metric, and may lack some.
    """

    model: Mapping[str, float | None]
    baselines: Mapping[str, Mapping[str, float | None]]
    missing: Mapping[str, str]
    heads: int
    methods: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    p_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    truth: Mapping[str, float | None] = field(default_factory=dict)
    """Values of the true views, of metrics that compare views with each other."""

    views: tuple[ViewValues, ...] = ()
    """The metrics that have a value for each view."""

    @property
    def others(self) -> dict[str, Mapping[str, float | None]]:
        """Baselines and methods, in the order of the table's columns."""
        return {**self.baselines, **self.methods}


@dataclass(frozen=True, kw_only=True)
class AblationSection:
    """The model against variants that each lack one condition: their metrics, as methods, and the figure.

    `orderings` are the rows of a table: metric, variant, difference, interval, p-value, which is better.
    """

    evaluation: EvaluationSection
    orderings: tuple[tuple[str, ...], ...]
    steps: Mapping[str, int]
    figure: UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True)
class SplatSection:
    """Splats of a head, fitted to `views` pictures of `side` pixels.

    `viewer` is what the script `splats.js` reads; `scores` are the metrics by the kind of views.
    """

    subject: str
    side: int
    views: int
    viewer: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """The counts and the time of one workflow stage in this run, with the parameters that enter its keys."""

    name: str
    version: int | None
    made: int
    reused: int
    seconds: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All data of a report. Sections that are None or empty are left out of the page."""

    run: str
    data_date: str
    """Day (ISO 8601) of the newest data in the report, not of rendering."""
    counts: Counts
    digests: Mapping[str, str]
    """Digests and fingerprints by name; the header shows "dataset"."""
    kept: tuple[HeadCard, ...] = ()
    dropped: tuple[HeadCard, ...] = ()
    kept_by_review: tuple[HeadCard, ...] = ()
    """Heads that a person kept against the screen, with the screen's reasons for dropping them."""
    quarantined: tuple[Quarantined, ...] = ()
    orbit: Orbit | None = None
    coverage: Coverage | None = None
    likenesses: Likenesses | None = None
    curves: tuple[LossCurve, ...] = ()
    novel_views: tuple[NovelViews, ...] = ()
    evaluation: EvaluationSection | None = None
    memorised: tuple[Likeness, ...] | str = ()
    """Generated heads beside the training heads that they are most similar to, or why this is not known."""
    ablation: AblationSection | None = None
    splats: SplatSection | None = None
    stages: tuple[StageRow, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter of the profile, by section."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Licence terms by the part that they cover."""
