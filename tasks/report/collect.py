"""Collects the data of a report from the artifacts and the dataset of a run.

Only what the report shows is read: an evenly spaced selection of the dataset's heads, all verdicts of the screen, and
the previews of some dropped heads for each reason. `tasks.report.data` documents the formats of `history.json`,
`evaluation.json` and `pictures.npz`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from spinmeround.storage.artifacts import Artifact, ArtifactStore
from spinmeround.storage.dataset import CAPTURED, HeadDataset
from spinmeround.storage.dataset.manifest import MANIFEST
from spinmeround.storage.errors import StoreError
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.heads.registry import HEAD_STAGES, PUBLISHED_STAGES
from spinmeround.tasks.heads.review import Review, load_review
from spinmeround.tasks.heads.sample_files import load_previews
from spinmeround.tasks.pictures.webp import nearest_view, resize
from spinmeround.tasks.report.coverage import read_coverage
from spinmeround.tasks.report.data import (
    HeadCard,
    LossCurve,
    Orbit,
    OrbitHead,
    Quarantined,
    ReportData,
    SplatSection,
    StageRow,
)
from spinmeround.tasks.report.evaluations import (
    read_ablation,
    read_evaluation,
    read_identities,
    read_novel_views,
    read_views,
)
from spinmeround.tasks.report.likeness import read_likenesses, read_memorised
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.stage import GATE, Head
from spinmeround.tasks.training.params.phases import PHASES, field_of

SCORED_VIEWS = {"held_out": "held-out views", "truth": "true views"}
"""Views that splats are scored on, by their fields of `scores.json`."""
FRONT, BACK = (0.0, 0.0), (180.0, 0.0)
"""Azimuth and elevation of the two views on a contact sheet, in degrees."""

LICENCES = {
    "code": "SpinMeRound: Apache-2.0.",
    "third-party parts": "Generators and weights that a profile may name (PanoHead, Stable Diffusion, InsightFace's "
    "packs, Arc2Face) have their own terms, most of them non-commercial, which extend to what is made with them.",
}

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Where the results of a run are.

    `keys` holds the artifact keys of each head, by id and stage (`tasks.stage.head_keys`); it and `heads` are empty if
    another run made the dataset, or it was imported. `training`, `evaluation`,
    `ablation` and `reconstruction` are (stage, key) of the artifacts with `history.json`, with `evaluation.json` and
    `pictures.npz`, with `ablation.json`, and with `splats.ply` and `scores.json`, or None before they exist. `stages`
    holds the counts of the summary, {name: {made, reused, seconds}}; `parameters` is the complete profile by section.
    """

    name: str
    store: ArtifactStore
    heads: Sequence[Head]
    keys: Mapping[str, Mapping[str, str]]
    dataset: Path
    training: tuple[str, str] | None = None
    evaluation: tuple[str, str] | None = None
    ablation: tuple[str, str] | None = None
    reconstruction: tuple[str, str] | None = None
    stages: Mapping[str, Mapping[str, float]]
    parameters: Mapping[str, Any]


def collect_report(run: FinishedRun, params: ReportParams) -> ReportData:
    """The data of this run's report. Raises StoreError or DatasetError if an artifact is missing or damaged."""
    dataset = HeadDataset.open(run.dataset)
    training = run.store.verify(*run.training) if run.training else None
    evaluation = run.store.verify(*run.evaluation) if run.evaluation else None
    reconstruction = run.store.verify(*run.reconstruction) if run.reconstruction else None
    reviews = _reviews(run)
    attributes = dataset.attributes
    novel_views = read_novel_views(evaluation.path) if evaluation else ()
    return ReportData(
        run=run.name,
        data_date=_newest_day(run, dataset, [training, evaluation, reconstruction]),
        counts=Counts(**attributes["counts"]),
        digests={"dataset": dataset.digest}
        | dict(attributes["fingerprints"])
        | _artifact_keys(training=training, evaluation=evaluation, reconstruction=reconstruction),
        kept=_kept_cards(dataset, params),
        dropped=_dropped_cards(run, reviews, params),
        kept_by_review=_kept_by_review(run, reviews, params),
        quarantined=_quarantined(run) or _left_out(attributes),
        orbit=_orbit(dataset, params),
        curves=tuple(curve for each in training_chain(run.store, training) for curve in read_curves(each)),
        coverage=read_coverage(dataset),
        likenesses=read_likenesses(dataset, params.similar_heads),
        novel_views=novel_views[: params.novel_heads],
        memorised=read_memorised(dataset, read_identities(evaluation.path), novel_views) if evaluation else (),
        evaluation=replace(read_evaluation(evaluation.path / "evaluation.json"), views=read_views(evaluation.path))
        if evaluation
        else None,
        ablation=read_ablation(run.store.verify(*run.ablation).path) if run.ablation else None,
        splats=read_splat_section(reconstruction.path) if reconstruction else None,
        stages=stage_rows(run.stages, run.parameters),
        parameters=run.parameters,
        licences={"pictures": attributes["licence"]} | LICENCES,
    )


def read_splat_section(folder: Path) -> SplatSection:
    """The splats of a reconstruction as the viewer shows them, and their scores."""
    from spinmeround.tasks.reconstruction.files import SCORES, SPLATS
    from spinmeround.tasks.reconstruction.ply import read_splats
    from spinmeround.tasks.reconstruction.viewer import viewer_data

    found = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    return SplatSection(
        subject=found["subject"],
        side=found["side"],
        views=len(found["fitted_views"]),
        viewer=viewer_data(read_splats((folder / SPLATS).read_bytes()), found["side"], degree=0),
        scores={name: found[key] for key, name in SCORED_VIEWS.items() if key in found},
    )


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced over all of them, in order."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def training_chain(store: ArtifactStore, training: Artifact | None) -> list[Artifact]:
    """A training after those that it begins with, directly or not."""
    if training is None:
        return []
    before = [store.verify(name, key) for name, key in training.manifest.inputs.items() if name in PHASES]
    return [*(each for first in before for each in training_chain(store, first)), training]


def read_curves(training: Artifact) -> tuple[LossCurve, ...]:
    """The loss curves of a training, of version 0.1.0 with the phases that it has in one."""
    phases = training_phases(training.manifest.params)
    found = json.loads((training.path / "history.json").read_text(encoding="utf-8"))
    runs: list[dict[str, Any]] = [{"name": "training", "history": found}] if isinstance(found, list) else found["runs"]
    return tuple(
        LossCurve(
            name=run["name"],
            step=np.array([record["step"] for record in run["history"]], np.float64),
            loss=np.array([record["loss"] for record in run["history"]], np.float64),
            phases=phases,
        )
        for run in runs
    )


def training_phases(params: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Names and last steps of the phases that have at least one step."""
    phases, end = [], 0
    for name in PHASES:
        if steps := params.get(field_of(name), {}).get("steps", 0):
            end += steps
            phases.append((name.replace("-", " "), end))
    return tuple(phases)


def stage_rows(counts: Mapping[str, Mapping[str, float]], parameters: Mapping[str, Any]) -> tuple[StageRow, ...]:
    """One row for each stage of the summary, with its version and the parameters that it reads."""
    known = {stage.name: stage for stage in HEAD_STAGES}
    rows = []
    for name, count in counts.items():
        stage = known.get(name)
        reads = stage.reads if stage else ("train",) if name in PHASES else (name,)
        rows.append(
            StageRow(
                name=name,
                version=stage.version if stage else None,
                made=int(count["made"]),
                reused=int(count["reused"]),
                seconds=float(count["seconds"]),
                parameters={section: parameters[section] for section in reads if section in parameters},
            )
        )
    return tuple(rows)


def _reviews(run: FinishedRun) -> dict[str, Review]:
    """The final verdicts by id, of the heads that reached the review stage."""
    found = {}
    for head in run.heads:
        key = run.keys[head.id][GATE]
        if run.store.has(GATE, key):
            found[head.id] = load_review(run.store.verify(GATE, key).path)
    return found


def _kept_cards(dataset: HeadDataset, params: ReportParams) -> tuple[HeadCard, ...]:
    cameras = dataset.cameras()
    views = [nearest_view(cameras["azimuth_deg"], cameras["elevation_deg"], at) for at in (FRONT, BACK)]
    cards = []
    for subject in evenly_spaced(range(len(dataset.ids)), params.kept_heads):
        found = dataset.read_views(subject, views, ["rgb", "mask"])
        cards.append(
            HeadCard(id=dataset.ids[subject], pictures=found["rgb"], mask=found["mask"], captions=("front", "back"))
        )
    return tuple(cards)


def _dropped_cards(run: FinishedRun, reviews: Mapping[str, Review], params: ReportParams) -> tuple[HeadCard, ...]:
    """Some heads for each first reason, evenly spaced, in the order of the heads."""
    dropped = [name for name, final in reviews.items() if not final.keep]
    by_reason: dict[str, list[str]] = {}
    for name in dropped:
        by_reason.setdefault(reviews[name].reasons[0], []).append(name)
    chosen = {name for names in by_reason.values() for name in evenly_spaced(names, params.dropped_heads)}
    return tuple(_screened_card(run, name, reviews[name].reasons, reviews[name]) for name in dropped if name in chosen)


def _kept_by_review(run: FinishedRun, reviews: Mapping[str, Review], params: ReportParams) -> tuple[HeadCard, ...]:
    """Some of the heads that a person kept, with the screen's reasons for dropping them."""
    names = evenly_spaced([name for name, final in reviews.items() if final.kept_by_review], params.dropped_heads)
    return tuple(_screened_card(run, name, reviews[name].screen.reasons, reviews[name]) for name in names)


def _screened_card(run: FinishedRun, name: str, reasons: tuple[str, ...], final: Review) -> HeadCard:
    """A card with all previews and scores of a head."""
    folder = run.store.verify("sample", run.keys[name]["sample"]).path
    previews = load_previews(folder)
    pictures, mask = previews.rendering.rgb, previews.rendering.mask
    captions = tuple(f"{azimuth:g}°" for azimuth in previews.cameras.azimuth_deg)
    scores = {score: value for score, value in final.scores.items() if value is not None}
    return HeadCard(id=name, pictures=pictures, mask=mask, captions=captions, reasons=reasons, scores=scores)


def _quarantined(run: FinishedRun) -> tuple[Quarantined, ...]:
    """Failures of this run's artifacts; a shared store also holds failures of other runs."""
    ours = {(stage, key) for keys in run.keys.values() for stage, key in keys.items()}
    return tuple(
        Quarantined(id=failure.subject, stage=failure.stage, reason=failure.reason, attempts=failure.attempts)
        for failure in run.store.failures()
        if (failure.stage, failure.key) in ours
    )


def _orbit(dataset: HeadDataset, params: ReportParams) -> Orbit:
    cameras, heads = dataset.cameras(), []
    for subject in evenly_spaced(range(len(dataset.ids)), params.viewer_heads):
        found = dataset.read_views(subject, range(dataset.views), ["rgb", "mask", "normals"])
        small = {name: resize(array, params.viewer_resolution) for name, array in found.items()}
        heads.append(OrbitHead(id=dataset.ids[subject], **small))
    return Orbit(
        side=dataset.sizes["height"],
        azimuth_deg=cameras["azimuth_deg"],
        elevation_deg=cameras["elevation_deg"],
        heads=tuple(heads),
    )


def _left_out(attributes: Mapping[str, Any]) -> tuple[Quarantined, ...]:
    """The heads that an import left out, with their reasons."""
    left_out: Mapping[str, str] = attributes.get(CAPTURED, {}).get("left_out", {})
    return tuple(Quarantined(id=id, stage="import", reason=why, attempts=1) for id, why in left_out.items())


def _newest_day(run: FinishedRun, dataset: HeadDataset, artifacts: Sequence[Artifact | None]) -> str:
    """The day of the newest of these artifacts or, if there are none, of the newest complete head.

    A dataset that was not made by this run is as old as its manifest.
    """
    made = [artifact.manifest.created for artifact in artifacts if artifact]
    if not made and run.heads:
        last = [(stage, keys[stage]) for keys in run.keys.values() for stage in PUBLISHED_STAGES]
        made = [run.store.open(*each).manifest.created for each in last if run.store.has(*each)]
    elif not made:
        written = (dataset.path / MANIFEST).stat().st_mtime
        made = [datetime.fromtimestamp(written, UTC).date().isoformat()]
    if not made:
        raise StoreError(
            f"report of {run.name}: expected at least one complete head, found none; build the dataset first"
        )
    return max(made)[:10]


def _artifact_keys(**artifacts: Artifact | None) -> dict[str, str]:
    return {name: artifact.manifest.key for name, artifact in artifacts.items() if artifact}
