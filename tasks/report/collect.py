"""From what a run left on disk to what its report shows.

Only what will be shown is read: some heads of the dataset, evenly chosen, all verdicts of the screen, and
the pictures of some dropped heads for each reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.artifacts.store import Artifact, ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import StoreError
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.heads.review import Review, load_review
from spinmeround.tasks.pictures.webp import nearest_view, resize
from spinmeround.tasks.report.data import (
    HeadCard,
    Orbit,
    OrbitHead,
    Quarantined,
    ReportData,
)
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report_results import read_curves, read_evaluation, read_novel_views, stage_rows
from spinmeround.tasks.stage import GATE, Head

FRONT, BACK = (0.0, 0.0), (180.0, 0.0)
"""Azimuth and elevation of the two views on a contact sheet, in degrees."""

LICENCES = {
    "code": "SpinMeRound: Apache-2.0.",
    "others' parts": "Generators and weights that a profile may name (PanoHead, Stable Diffusion, InsightFace's packs, "
    "Arc2Face) bring their own terms, most of them non-commercial, to what is made with them.",
}


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Where a run's results are.

    `keys` has the keys of each head's artifacts, by id and stage (`tasks.stage.head_keys`); `training` and
    `evaluation` are (stage, key) of artifacts with `history.json`, and `evaluation.json` and `pictures.npz`,
    or None before there are any. `stages` are the counts of the summary, {name: {made, reused, seconds}};
    `parameters` the whole profile by section.
    """

    name: str
    store: ArtifactStore
    heads: Sequence[Head]
    keys: Mapping[str, Mapping[str, str]]
    dataset: Path
    training: tuple[str, str] | None = None
    evaluation: tuple[str, str] | None = None
    stages: Mapping[str, Mapping[str, float]]
    parameters: Mapping[str, Any]


def collect_report(run: FinishedRun, params: ReportParams) -> ReportData:
    """Everything that the report of this run shows. Raises StoreError or DatasetError where a part is not whole."""
    dataset = HeadDataset.open(run.dataset)
    training = run.store.open(*run.training) if run.training else None
    evaluation = run.store.open(*run.evaluation) if run.evaluation else None
    reviews = _reviews(run)
    attributes = dataset.attributes
    return ReportData(
        run=run.name,
        data_date=_newest_day(run, [training, evaluation]),
        counts=Counts(**attributes["counts"]),
        digests={"dataset": dataset.digest} | dict(attributes["fingerprints"]) | _made_by(training, evaluation),
        kept=_kept_cards(dataset, params),
        dropped=_dropped_cards(run, reviews, params),
        rescued=_rescued_cards(run, reviews, params),
        quarantined=_quarantined(run),
        orbit=_orbit(dataset, params),
        curves=read_curves(training) if training else (),
        novel_views=read_novel_views(evaluation.path)[: params.novel_heads] if evaluation else (),
        evaluation=read_evaluation(evaluation.path / "evaluation.json") if evaluation else None,
        stages=stage_rows(run.stages, run.parameters),
        parameters=run.parameters,
        licences={"pictures": attributes["licence"]} | LICENCES,
    )


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly chosen over all of them, in order."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def _reviews(run: FinishedRun) -> dict[str, Review]:
    """The final verdicts by id, of the heads that got as far."""
    found = {}
    for head in run.heads:
        key = run.keys[head.id][GATE]
        if run.store.has(GATE, key):
            found[head.id] = load_review(run.store.open(GATE, key).path)
    return found


def _kept_cards(dataset: HeadDataset, params: ReportParams) -> tuple[HeadCard, ...]:
    cameras = dataset.cameras()
    views = [nearest_view(cameras["azimuth_deg"], cameras["elevation_deg"], at) for at in (FRONT, BACK)]
    cards = []
    for subject in spread(range(len(dataset.ids)), params.kept_heads):
        found = dataset.read_views(subject, views, ["rgb", "mask"])
        cards.append(
            HeadCard(id=dataset.ids[subject], pictures=found["rgb"], mask=found["mask"], captions=("front", "back"))
        )
    return tuple(cards)


def _dropped_cards(run: FinishedRun, reviews: Mapping[str, Review], params: ReportParams) -> tuple[HeadCard, ...]:
    """Some heads for each first reason, evenly chosen, in the order of the heads."""
    dropped = [name for name, final in reviews.items() if not final.keep]
    by_reason: dict[str, list[str]] = {}
    for name in dropped:
        by_reason.setdefault(reviews[name].reasons[0], []).append(name)
    chosen = {name for names in by_reason.values() for name in spread(names, params.dropped_heads)}
    return tuple(_judged_card(run, name, reviews[name].reasons, reviews[name]) for name in dropped if name in chosen)


def _rescued_cards(run: FinishedRun, reviews: Mapping[str, Review], params: ReportParams) -> tuple[HeadCard, ...]:
    """Some of the heads that a person kept, with the reasons for which the screen would have dropped them."""
    rescued = spread([name for name, final in reviews.items() if final.rescued], params.dropped_heads)
    return tuple(_judged_card(run, name, reviews[name].screen.reasons, reviews[name]) for name in rescued)


def _judged_card(run: FinishedRun, name: str, reasons: tuple[str, ...], final: Review) -> HeadCard:
    folder = run.store.open("sample", run.keys[name]["sample"]).path
    with np.load(folder / "preview.npz", allow_pickle=False) as preview:
        pictures, mask, azimuths = preview["rgb"], preview["mask"], preview["azimuth"]
    captions = tuple(f"{azimuth:g}°" for azimuth in azimuths)
    scores = {score: value for score, value in final.scores.items() if value is not None}
    return HeadCard(id=name, pictures=pictures, mask=mask, captions=captions, reasons=reasons, scores=scores)


def _quarantined(run: FinishedRun) -> tuple[Quarantined, ...]:
    """Failures of this run's own artifacts; a shared store may hold those of others."""
    ours = {(stage, key) for keys in run.keys.values() for stage, key in keys.items()}
    return tuple(
        Quarantined(id=failure.subject, stage=failure.stage, reason=failure.reason, attempts=failure.attempts)
        for failure in run.store.failures()
        if (failure.stage, failure.key) in ours
    )


def _orbit(dataset: HeadDataset, params: ReportParams) -> Orbit:
    cameras, heads = dataset.cameras(), []
    views, side = range(dataset.views), 0
    for subject in spread(range(len(dataset.ids)), params.viewer_heads):
        found = dataset.read_views(subject, views, ["rgb", "mask", "normals"])
        side = found["rgb"].shape[1]
        small = {name: resize(array, params.viewer_resolution) for name, array in found.items()}
        heads.append(OrbitHead(id=dataset.ids[subject], **small))
    return Orbit(
        side=side, azimuth_deg=cameras["azimuth_deg"], elevation_deg=cameras["elevation_deg"], heads=tuple(heads)
    )


def _newest_day(run: FinishedRun, artifacts: Sequence[Artifact | None]) -> str:
    """The day of the newest of these artifacts, or of the newest written head where there are none."""
    made = [artifact.manifest.created for artifact in artifacts if artifact]
    if not made:
        written = [keys["write"] for keys in run.keys.values() if run.store.has("write", keys["write"])]
        made = [run.store.open("write", key).manifest.created for key in written]
    if not made:
        raise StoreError(
            f"report of {run.name}: expected at least one written head, found none; build the dataset first"
        )
    return max(made)[:10]


def _made_by(training: Artifact | None, evaluation: Artifact | None) -> dict[str, str]:
    artifacts = {"training": training, "evaluation": evaluation}
    return {name: artifact.manifest.key for name, artifact in artifacts.items() if artifact}
