"""Shares of defective and clean heads that the screen drops, on heads held out of the calibration.

A verdict and limits are fitted to the true labels of one set of procedural heads and evaluated on another, and on the
heads of a second generator if one is named (`--held-out`), on which nothing is fitted or chosen. Recall is measured
with and without each part of the evidence. Then every pair of defect kinds is left out of the fit and evaluated alone,
and verdicts are fitted to few labels without kinds, as a person gives them. The screen of the profile is evaluated too.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from spinmeround.flows.profile import load_profile
from spinmeround.models.screening.ablation import recalls
from spinmeround.models.screening.calibration import LabelledScores, choose_limits, cross_validated, dropped, pick
from spinmeround.models.screening.fit import fit_curves
from spinmeround.models.screening.learn import Learned, learn
from spinmeround.models.screening.rates import Rate
from spinmeround.models.screening.scores import SCORES
from spinmeround.models.screening.threshold import Errors, Target, threshold_for_loss
from spinmeround.models.screening.verdict import logit
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.plan import PlanParams, plan_heads
from spinmeround.tasks.heads.sample import SAMPLE
from spinmeround.tasks.heads.score import SCORE, load_scores
from spinmeround.tasks.heads.screen import ScreenParams, screen
from spinmeround.tasks.heads.verdict_file import verdict_file
from spinmeround.tasks.screening.calibrate import Label, drop_rates, true_labels
from spinmeround.tasks.stage import Head, StageSections, head_keys, make_head

STAGES = (SAMPLE, SCORE)
Scores = Mapping[str, float | None]
Row = dict[str, Any]
FEW_DRAWS, FEW_KEEP = 5, 0.95
"""Number of verdicts from few labels, and the share of clean heads that they are to keep."""

TRAIT_BINS = 3
"""Number of ranges of a trait that is a number."""


def main(
    heads: Annotated[int, typer.Option(min=1, help="Number of heads to evaluate on.")] = 1000,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first evaluated head.")] = 40_000_000,
    calibration_heads: Annotated[int, typer.Option(min=1, help="Number of heads to fit to.")] = 1000,
    calibration_seed: Annotated[int, typer.Option(min=0, help="Seed of the first fitted head.")] = 30_000_000,
    keep: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the clean heads to keep when fitting.")
    ] = 0.97,
    held_out: Annotated[
        str | None, typer.Option(help="A second generator as package.module:factory, with defects of its own.")
    ] = None,
    held_out_heads: Annotated[int, typer.Option(min=1, help="Number of its heads.")] = 1000,
    held_out_seed: Annotated[int, typer.Option(min=0, help="Seed of the first of its heads.")] = 0,
    held_out_overrides: Annotated[
        list[str] | None, typer.Option("--held-out-set", help="Override a field for its heads only; repeatable.")
    ] = None,
    labels: Annotated[int, typer.Option(min=20, help="Number of labels of a person to simulate.")] = 100,
    profile: Annotated[str, typer.Option(help="Profile with the screen to compare.")] = "demo",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of the profile; repeatable.")
    ] = None,
    store: Annotated[Path, typer.Option(help="Folder for the artifacts, reused by the next run.")] = Path(
        "runs/bench-screening"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the screen on heads with known defects that were held out of the calibration."""
    if set(range(first_seed, first_seed + heads)) & set(range(calibration_seed, calibration_seed + calibration_heads)):
        raise typer.BadParameter("expected different seeds for evaluation and calibration, but the ranges overlap")
    began, given = perf_counter(), overrides or []
    scored = partial(_scored, profile, store=store, workers=workers)
    known = scored(given, calibration_seed, calibration_heads)
    families = {"known kinds": scored(given, first_seed, heads)}
    if held_out is not None:
        other = [
            *given,
            f"generator.name={held_out}",
            "generator.options={}",
            "screen={}",
            *_evidence_of(profile, given),
        ]
        other += held_out_overrides or []
        families["held-out generator"] = scored(other, held_out_seed, held_out_heads)
    seconds, scored_heads = (
        perf_counter() - began,
        calibration_heads + sum(len(each.labels) for each in families.values()),
    )
    learned = _learned(known, keep)
    limits = _chosen(known.labelled, keep)
    own = load_profile(profile, given).screen
    screens = {
        "learned verdict": lambda judged: _log_odds(learned, judged) > logit(learned.threshold),
        "fitted limits": lambda judged: dropped(judged.labelled, limits),
        f"screen of {profile}": lambda judged: _by_profile(judged, own),
    }
    at_a_glance = {f"{family}, at a glance": judged.at_a_glance() for family, judged in families.items()}
    tables: dict[str, list[Row]] = {
        "summary": [
            _summary(name, family, judged.labelled, drops(judged))
            for family, judged in {**families, **at_a_glance}.items()
            for name, drops in screens.items()
            if judged.labels
        ],
        "recall at a loss of clean heads, learned verdicts": _recall_rows(known, families, learned),
    }
    for family, judged in families.items():
        is_dropped = screens["learned verdict"](judged)
        tables |= {
            f"by kind and strength ({family}, learned verdict)": _by_kind(judged, is_dropped),
            f"clean heads by trait ({family}, learned verdict)": _by_trait(judged, is_dropped),
            f"escaped ({family}, learned verdict)": _escaped(judged, is_dropped),
            f"clean heads dropped ({family}, learned verdict)": _lost(judged, is_dropped, learned),
            f"verdicts from {labels} blind labels ({family}, keep {FEW_KEEP:.0%})": _few_labels(judged, labels),
        }
    tables |= {
        "by reason (fitted limits)": _by_reason(families["known kinds"], limits),
        "two kinds held out of the fit (learned verdict)": _pairs(known, families["known kinds"], learned, keep),
        "time": [{"heads": scored_heads, "processes": workers, "seconds": seconds}],
    }
    return {title: rows for title, rows in tables.items() if rows}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Heads with their scores, true labels and, if the generator has them, traits and whether a person notices them."""

    seeds: list[int]
    scores: list[Scores]
    labels: list[Label]
    traits: list[Mapping[str, Any]]
    noticeable: list[bool]

    @property
    def labelled(self) -> LabelledScores:
        return LabelledScores.of(self.scores, [label.defective for label in self.labels])

    @property
    def kinds(self) -> list[str]:
        return [label.kind for label in self.labels]

    def at_a_glance(self) -> "Judged":
        """The clean heads and those whose defect a person notices at a glance; no heads if nobody has looked."""
        some = any(self.noticeable)
        at = [i for i, label in enumerate(self.labels) if some and (self.noticeable[i] or not label.defective)]
        return Judged(**{each.name: [getattr(self, each.name)[i] for i in at] for each in fields(self)})


def _scored(
    profile: str, overrides: Sequence[str], first_seed: int, heads: int, *, store: Path, workers: int
) -> Judged:
    """Scores, true labels and traits of these heads, made by the real stages."""
    loaded = load_profile(profile, overrides)
    sections = {stage.name: stage.sections(loaded) for stage in STAGES}
    generator = generator_of(loaded.generator)
    plan = plan_heads(generator.name, PlanParams(heads=heads, first_seed=first_seed))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        scores = list(pool.map(partial(_score, store, sections), plan, chunksize=4))
    seeds = [head.seed for head in plan]
    describe, notice = getattr(generator, "traits", None), getattr(generator, "is_noticeable", None)
    return Judged(
        seeds=seeds,
        scores=scores,
        labels=true_labels(generator, seeds),
        traits=[describe(generator.sample(seed)) if describe else {} for seed in seeds],
        noticeable=[bool(notice and notice(generator.sample(seed))) for seed in seeds],
    )


def _score(root: Path, sections: Mapping[str, StageSections], head: Head) -> Scores:
    store, keys = ArtifactStore(root), head_keys(STAGES, head, sections)
    for stage in STAGES:
        make_head(store, stage, head, sections[stage.name], {name: keys[name] for name in stage.inputs})
    return load_scores(store.open("score", keys["score"]).path)


def _evidence_of(profile: str, given: Sequence[str]) -> list[str]:
    """Overrides that score heads of a second generator by the networks that score those of the profile's."""
    loaded = load_profile(profile, given)
    if loaded.generator.name != "procedural":
        return []
    chosen = loaded.score.model_dump(include={"detector", "inspector", "population"})
    return [f"score.{field}=embedded" for field, value in chosen.items() if value == "auto"]


def _learned(known: Judged, keep: float) -> Learned:
    everything = np.ones(len(known.labels), bool)
    try:
        return learn(known.labelled, kinds=known.kinds, at_random=everything, target=Target(keep=keep))
    except ValueError as error:
        raise ConfigError(f"--calibration-heads: {error}") from error


def _log_odds(learned: Learned, judged: Judged) -> np.ndarray:
    return learned.additive.log_odds(judged.labelled.values)


def _chosen(known: LabelledScores, keep: float) -> dict[str, float]:
    """Limits that keep this share of unseen clean heads, or as many as limits can."""
    curve = cross_validated(known)
    return choose_limits(known, pick(curve, keep=min(keep, 1.0 - min(point.lost for point in curve))).allowed)


def _by_profile(judged: Judged, params: ScreenParams) -> np.ndarray:
    own = verdict_file(params.verdict)[0] if params.verdict else None
    return np.array([not screen(scores, params, own).keep for scores in judged.scores])


def _summary(name: str, family: str, heads: LabelledScores, is_dropped: np.ndarray) -> Row:
    errors = Errors.of(is_dropped, heads.defective)
    return {
        "heads": family,
        "screen": name,
        "clean": errors.lost.trials,
        "clean dropped": errors.lost.text(),
        "defective": errors.caught.trials,
        "defective dropped": errors.caught.text(),
    }


def _recall_rows(known: Judged, families: Mapping[str, Judged], learned: Learned) -> list[Row]:
    other = families.get("held-out generator")
    found = recalls(known.labelled, families["known kinds"].labelled, other and other.labelled, learned.settings)
    return [
        {"evidence": row.evidence}
        | {f"known, {loss:.0%} lost": f"{share:.1%}" for loss, share in row.known.items()}
        | {f"held-out, {loss:.0%} lost": f"{share:.1%}" for loss, share in row.held_out.items()}
        for row in found
    ]


def _by_kind(judged: Judged, is_dropped: np.ndarray) -> list[Row]:
    return [
        {"kind": row.kind, "strength": row.strength, "heads": row.heads, "dropped": Rate(row.dropped, row.heads).text()}
        for row in drop_rates(is_dropped, judged.labels)
        if row.heads
    ]


def _by_trait(judged: Judged, is_dropped: np.ndarray) -> list[Row]:
    """Clean heads dropped by each value of each trait; the range of a number is cut into equal parts of the heads."""
    clean = [index for index, label in enumerate(judged.labels) if not label.defective]
    rows = []
    for trait in judged.traits[0] if judged.traits else ():
        values = _categories([judged.traits[index].get(trait) for index in clean])
        for value in sorted(set(values)):
            own = [index for index, each in zip(clean, values, strict=True) if each == value]
            rate = Rate(int(is_dropped[own].sum()), len(own))
            rows.append({"trait": trait, "value": value, "clean heads": len(own), "dropped": rate.text()})
    return rows


def _categories(values: Sequence[Any]) -> list[str]:
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) < len(values) or len(set(numbers)) <= TRAIT_BINS:
        return [str(value) for value in values]
    edges = np.quantile(numbers, np.linspace(0, 1, TRAIT_BINS + 1))
    at = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, TRAIT_BINS - 1)
    return [f"{edges[each]:.3g} to {edges[each + 1]:.3g}" for each in at]


def _by_reason(judged: Judged, limits: Mapping[str, float]) -> list[Row]:
    found = judged.labelled
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


def _pairs(known: Judged, judged: Judged, learned: Learned, keep: float) -> list[Row]:
    """Every pair of kinds, the lowest share first: a verdict fitted without these kinds, evaluated on them alone."""
    found, kinds, judged_kinds = judged.labelled, np.array(known.kinds), np.array(judged.kinds)
    rows = []
    for pair in combinations(sorted(set(kinds) - {""}), 2):
        log_odds = fit_curves(known.labelled[~np.isin(kinds, pair)], learned.settings).log_odds(found.values)
        is_dropped = log_odds > threshold_for_loss(log_odds, found.defective, 1.0 - keep)
        of_pair = np.isin(judged_kinds, pair)
        if of_pair.any():
            rows.append((float(is_dropped[of_pair].mean()), pair, int(of_pair.sum())))
    return [
        {"held out": " and ".join(pair), "heads": heads, "dropped": f"{share:.1%}"}
        for share, pair, heads in sorted(rows)
    ]


def _few_labels(judged: Judged, labels: int) -> list[Row]:
    """Verdicts from random heads of this family whose kinds are hidden, judged on all other heads."""
    found, rows = judged.labelled, []
    for draw in range(FEW_DRAWS if labels < len(judged.labels) else 0):
        order = np.random.default_rng([draw, 2]).permutation(len(judged.labels))
        own, rest = order[:labels], order[labels:]
        try:
            learned = learn(
                found[own], kinds=[""] * labels, at_random=np.ones(labels, bool), target=Target(keep=FEW_KEEP)
            )
        except ValueError as error:
            rows.append({"draw": draw, "clean dropped": str(error)})
            continue
        is_dropped = learned.additive.log_odds(found.values[rest]) > logit(learned.threshold)
        errors = Errors.of(is_dropped, found.defective[rest])
        rows.append({"draw": draw, "clean dropped": errors.lost.text(), "defective dropped": errors.caught.text()})
    return rows


def _lost(judged: Judged, is_dropped: np.ndarray, learned: Learned) -> list[Row]:
    """Clean heads that are dropped, with the score whose evidence weighs most."""
    columns, values = {score.name: at for at, score in enumerate(SCORES)}, judged.labelled.values
    evidence = np.stack([curve.at(values[:, columns[curve.score]]) for curve in learned.additive.curves])
    heaviest = [learned.additive.curves[at].score for at in evidence.argmax(axis=0)]
    return [
        {"seed": seed, "heaviest evidence": score}
        for seed, score, label, gone in zip(judged.seeds, heaviest, judged.labels, is_dropped, strict=True)
        if gone and not label.defective
    ]


def _escaped(judged: Judged, is_dropped: np.ndarray) -> list[Row]:
    return [
        {"seed": seed, "kind": label.kind, "strength": label.strength}
        for seed, label, gone in zip(judged.seeds, judged.labels, is_dropped, strict=True)
        if label.defective and not gone
    ]
