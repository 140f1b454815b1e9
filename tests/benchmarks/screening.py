"""Shares of defective and clean heads that the screen drops, on heads held out of the calibration.

Limits are fitted to the true labels of one set of procedural heads and evaluated on another. Then every pair of defect
kinds is left out of the fit and evaluated alone. The limits of the profile are evaluated as well.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from spinmeround.flows.profile import load_profile
from spinmeround.models.screening.calibration import LabelledScores, choose_limits, cross_validated, dropped, pick
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.plan import PlanParams, plan_heads
from spinmeround.tasks.heads.sample import SAMPLE
from spinmeround.tasks.heads.score import SCORE, load_scores
from spinmeround.tasks.screening.calibrate import Label, drop_rates, true_labels
from spinmeround.tasks.stage import Head, StageSections, head_keys, make_head

STAGES = (SAMPLE, SCORE)
Scores = Mapping[str, float | None]


def main(
    heads: Annotated[int, typer.Option(min=1, help="Number of heads to evaluate on.")] = 1000,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first evaluated head.")] = 40_000_000,
    calibration_heads: Annotated[int, typer.Option(min=1, help="Number of heads to fit limits to.")] = 1000,
    calibration_seed: Annotated[int, typer.Option(min=0, help="Seed of the first fitted head.")] = 30_000_000,
    keep: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the clean heads to keep when fitting limits.")
    ] = 0.955,
    profile: Annotated[str, typer.Option(help="Profile with the limits to compare.")] = "demo",
    store: Annotated[Path, typer.Option(help="Folder for the artifacts, reused by the next run.")] = Path(
        "runs/bench-screening"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the screen on heads with known defects that were held out of the calibration."""
    if set(range(first_seed, first_seed + heads)) & set(range(calibration_seed, calibration_seed + calibration_heads)):
        raise typer.BadParameter("expected different seeds for evaluation and calibration, but the ranges overlap")
    began = perf_counter()
    chosen = _scored(profile, calibration_seed, calibration_heads, store, workers)
    judged = _scored(profile, first_seed, heads, store, workers)
    seconds = perf_counter() - began
    known, kinds = _labelled(*chosen), np.array([label.kind for label in chosen[1]])
    limits = _chosen(known, keep)
    own = {name: limit for name, limit in load_profile(profile).screen.limits if limit is not None}
    return {
        "summary": [_summary("fitted limits", judged, limits), _summary(f"limits of {profile}", judged, own)],
        "by kind and strength (fitted limits)": _by_kind(judged, limits),
        f"by kind and strength (limits of {profile})": _by_kind(judged, own),
        "by reason (fitted limits)": _by_reason(judged, limits),
        "two kinds held out of the fit": _held_out(known, kinds, judged, keep),
        "escaped (fitted limits)": _escaped(judged, limits, first_seed),
        "time": [{"heads": heads + calibration_heads, "processes": workers, "seconds": seconds}],
    }


Heads = tuple[list[Scores], list[Label]]


def _scored(profile: str, first_seed: int, heads: int, store: Path, workers: int) -> Heads:
    """Scores and true labels of these heads, made by the real stages."""
    sections = {stage.name: stage.sections(load_profile(profile)) for stage in STAGES}
    plan = plan_heads("procedural", PlanParams(heads=heads, first_seed=first_seed))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        scores = list(pool.map(partial(_score, store, sections), plan, chunksize=4))
    return scores, true_labels(generator_of(sections["sample"].generator), [head.seed for head in plan])


def _score(root: Path, sections: Mapping[str, StageSections], head: Head) -> Scores:
    store, keys = ArtifactStore(root), head_keys(STAGES, head, sections)
    for stage in STAGES:
        make_head(store, stage, head, sections[stage.name], {name: keys[name] for name in stage.inputs})
    return load_scores(store.open("score", keys["score"]).path)


def _labelled(scores: Sequence[Scores], labels: Sequence[Label]) -> LabelledScores:
    return LabelledScores.of(scores, [label.defective for label in labels])


def _chosen(known: LabelledScores, keep: float) -> dict[str, float]:
    try:
        return choose_limits(known, pick(cross_validated(known), keep=keep).allowed)
    except ValueError as error:
        raise ConfigError(f"--{error}; lower the target, or raise --calibration-heads") from error


def _summary(name: str, heads: Heads, limits: Mapping[str, float]) -> dict[str, Any]:
    found = _labelled(*heads)
    is_dropped = dropped(found, limits)
    clean, defective = ~found.defective, found.defective
    return {
        "": name,
        "clean heads": int(clean.sum()),
        "clean dropped": f"{is_dropped[clean].mean():.1%}",
        "defective heads": int(defective.sum()),
        "defective dropped": f"{is_dropped[defective].mean():.1%}",
    }


def _by_kind(heads: Heads, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = drop_rates(dropped(_labelled(*heads), limits), heads[1])
    return [
        {"kind": row.kind, "strength": row.strength, "heads": row.heads, "dropped": f"{row.dropped / row.heads:.1%}"}
        for row in rows
        if row.heads
    ]


def _by_reason(heads: Heads, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    found = _labelled(*heads)
    rows = []
    for name, limit in limits.items():
        is_dropped, rest = dropped(found, {name: limit}), dropped(found, {n: v for n, v in limits.items() if n != name})
        rows.append(
            {
                "score": name,
                "limit": limit,
                "clean dropped": int(is_dropped[~found.defective].sum()),
                "defective dropped": int(is_dropped[found.defective].sum()),
                "defective dropped by it alone": int((is_dropped & ~rest)[found.defective].sum()),
            }
        )
    return rows


def _held_out(known: LabelledScores, kinds: np.ndarray, judged: Heads, keep: float) -> list[dict[str, Any]]:
    """Every pair of kinds, the lowest share first: limits fitted without these kinds, evaluated on them alone."""
    found, judged_kinds = _labelled(*judged), np.array([label.kind for label in judged[1]])
    rows = []
    for pair in combinations(sorted(set(kinds) - {""}), 2):
        is_dropped = dropped(found, _chosen(known[~np.isin(kinds, pair)], keep))
        of_pair = np.isin(judged_kinds, pair)
        if of_pair.any():
            rows.append((float(is_dropped[of_pair].mean()), pair, int(of_pair.sum())))
    return [
        {"held out": " and ".join(pair), "heads": heads, "dropped": f"{share:.1%}"}
        for share, pair, heads in sorted(rows)
    ]


def _escaped(heads: Heads, limits: Mapping[str, float], first_seed: int) -> list[dict[str, Any]]:
    is_dropped = dropped(_labelled(*heads), limits)
    return [
        {"seed": first_seed + index, "kind": label.kind, "strength": label.strength}
        for index, label in enumerate(heads[1])
        if label.defective and not is_dropped[index]
    ]
