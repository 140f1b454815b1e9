"""How many spoilt heads the screen catches and how many sound ones it loses, on heads that calibration never saw.

Limits are chosen on one set of procedural heads by their true labels and judged on another. Kinds of defects
are then held out of the choice, two at a time, and judged alone. The profile's own limits are judged too.
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
from spinmeround.tasks.screening.calibrate import Label, caught_rows, truth
from spinmeround.tasks.stage import Head, head_keys, make_head

STAGES = (SAMPLE, SCORE)
Scores = Mapping[str, float | None]


def main(
    heads: Annotated[int, typer.Option(min=1, help="Heads to judge.")] = 1000,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first of them.")] = 40_000_000,
    calibration_heads: Annotated[int, typer.Option(min=1, help="Heads to choose limits on.")] = 1000,
    calibration_seed: Annotated[int, typer.Option(min=0, help="Seed of the first of them.")] = 30_000_000,
    keep: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the sound heads to keep, when choosing limits.")
    ] = 0.955,
    profile: Annotated[str, typer.Option(help="Profile whose limits are judged beside the chosen ones.")] = "demo",
    store: Annotated[Path, typer.Option(help="Folder for the artifacts, used again by the next run.")] = Path(
        "runs/bench-screening"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Judge the screen on heads whose defects are known and that calibration never saw."""
    if set(range(first_seed, first_seed + heads)) & set(range(calibration_seed, calibration_seed + calibration_heads)):
        raise typer.BadParameter("the heads to judge and those to choose limits on must not overlap")
    began = perf_counter()
    chosen = _scored(profile, calibration_seed, calibration_heads, store, workers)
    judged = _scored(profile, first_seed, heads, store, workers)
    seconds = perf_counter() - began
    known, kinds = _labelled(*chosen), np.array([label.kind for label in chosen[1]])
    limits = _chosen(known, keep)
    own = {name: limit for name, limit in load_profile(profile).screen.limits if limit is not None}
    return {
        "summary": [_summary("limits chosen here", judged, limits), _summary(f"limits of {profile}", judged, own)],
        "by kind and strength (limits chosen here)": _by_kind(judged, limits),
        f"by kind and strength (limits of {profile})": _by_kind(judged, own),
        "by reason (limits chosen here)": _by_reason(judged, limits),
        "two kinds held out of the choice": _held_out(known, kinds, judged, keep),
        "escaped (limits chosen here)": _escaped(judged, limits, first_seed),
        "time": [{"heads": heads + calibration_heads, "processes": workers, "seconds": seconds}],
    }


Heads = tuple[list[Scores], list[Label]]


def _scored(profile: str, first_seed: int, heads: int, store: Path, workers: int) -> Heads:
    """Scores and true labels of these heads, made through the real stages."""
    sections = {stage.name: stage.sections(load_profile(profile)) for stage in STAGES}
    plan = plan_heads("procedural", PlanParams(heads=heads, first_seed=first_seed))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        scores = list(pool.map(partial(_score, store, sections), plan, chunksize=4))
    return scores, truth(generator_of(sections["sample"]), [head.seed for head in plan])


def _score(root: Path, sections: Mapping[str, Mapping[str, Any]], head: Head) -> Scores:
    store, keys = ArtifactStore(root), head_keys(STAGES, head, sections)
    for stage in STAGES:
        make_head(store, stage, head, sections[stage.name], {name: keys[name] for name in stage.inputs})
    return load_scores(store.open("score", keys["score"]).path)


def _labelled(scores: Sequence[Scores], labels: Sequence[Label]) -> LabelledScores:
    return LabelledScores.of(scores, [label.spoilt for label in labels])


def _chosen(known: LabelledScores, keep: float) -> dict[str, float]:
    try:
        return choose_limits(known, pick(cross_validated(known), keep=keep).allowed)
    except ValueError as error:
        raise ConfigError(f"--{error}; ask for less, or choose on more heads") from error


def _summary(name: str, heads: Heads, limits: Mapping[str, float]) -> dict[str, Any]:
    found = _labelled(*heads)
    gone = dropped(found, limits)
    sound, spoilt = ~found.spoilt, found.spoilt
    return {
        "": name,
        "sound heads": int(sound.sum()),
        "of them dropped": f"{gone[sound].mean():.1%}",
        "spoilt heads": int(spoilt.sum()),
        "of them dropped ": f"{gone[spoilt].mean():.1%}",
    }


def _by_kind(heads: Heads, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = caught_rows(dropped(_labelled(*heads), limits), heads[1])
    return [
        {"kind": row.kind, "strength": row.strength, "heads": row.heads, "dropped": f"{row.dropped / row.heads:.1%}"}
        for row in rows
        if row.heads
    ]


def _by_reason(heads: Heads, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    found = _labelled(*heads)
    rows = []
    for name, limit in limits.items():
        gone, rest = dropped(found, {name: limit}), dropped(found, {n: v for n, v in limits.items() if n != name})
        rows.append(
            {
                "score": name,
                "limit": limit,
                "sound dropped": int(gone[~found.spoilt].sum()),
                "spoilt dropped": int(gone[found.spoilt].sum()),
                "spoilt dropped by it alone": int((gone & ~rest)[found.spoilt].sum()),
            }
        )
    return rows


def _held_out(known: LabelledScores, kinds: np.ndarray, judged: Heads, keep: float) -> list[dict[str, Any]]:
    """Every pair of kinds, the worst first: limits chosen without any head of theirs, judged on theirs alone."""
    found, theirs = _labelled(*judged), np.array([label.kind for label in judged[1]])
    rows = []
    for pair in combinations(sorted(set(kinds) - {""}), 2):
        gone = dropped(found, _chosen(known[~np.isin(kinds, pair)], keep))
        of_pair = np.isin(theirs, pair)
        if of_pair.any():
            rows.append((float(gone[of_pair].mean()), pair, int(of_pair.sum())))
    return [
        {"held out": " and ".join(pair), "heads": heads, "dropped": f"{share:.1%}"}
        for share, pair, heads in sorted(rows)
    ]


def _escaped(heads: Heads, limits: Mapping[str, float], first_seed: int) -> list[dict[str, Any]]:
    gone = dropped(_labelled(*heads), limits)
    return [
        {"seed": first_seed + index, "kind": label.kind, "strength": label.strength}
        for index, label in enumerate(heads[1])
        if label.spoilt and not gone[index]
    ]
