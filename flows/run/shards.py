"""One stage for a shard of heads: what a task run does.

Each head is made in a worker process, tried again when it fails, and then quarantined with its reason, so
that one bad head never stops a build. What stops one: a file system that refuses, or more quarantined
heads than the profile puts up with.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from pydantic import BaseModel

from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session
from spinmeround.flows.run.workers import CallFailed, Raised, Worker, WorkerLost, attempt
from spinmeround.storage.artifacts import ArtifactStore, Failure
from spinmeround.storage.errors import (
    ConfigError,
    CorruptArtifact,
    MissingArtifact,
    SpinMeRoundError,
    StorageUnavailable,
)
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.stage import BoundStage, Head, Outcome, Stage

STAGES = {stage.name: stage for stage in HEAD_STAGES}
BATCH_S, LARGEST_BATCH = 1.0, 64
"""Heads go to a worker in batches that take about so long: quick ones many at a time, slow ones one by one."""
_BROKEN_INPUT = (CorruptArtifact, MissingArtifact)


@dataclass(frozen=True, kw_only=True)
class ShardCount:
    """What became of a shard's heads; `skipped` ones were dropped or given up before this stage."""

    made: int = 0
    reused: int = 0
    skipped: int = 0
    quarantined: tuple[Failure, ...] = ()

    def __str__(self) -> str:
        parts = {
            "made": self.made,
            "reused": self.reused,
            "skipped": self.skipped,
            "quarantined": len(self.quarantined),
        }
        return ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "nothing to do"


def artifact_status(session: Session, stage: Stage, head: Head) -> Literal["there", "waiting", "left out"]:
    """Whether this stage's artifact of a head is there, or to be made, or not: dropped by screen or review, given up.

    Raises CorruptArtifact where the artifact is there but not whole; it has then been moved aside.
    """
    keys = session.keys[head.id]
    if session.has(stage.name, head):
        with suppress(MissingArtifact):  # somebody else has moved it aside since
            session.store.open(stage.name, keys[stage.name])
            return "there"
    if stage.gated and session.drop_reasons(head):
        return "left out"
    given_up = any((name, keys[name]) in session.quarantine for name in (*_before(stage), stage.name))
    return "left out" if given_up else "waiting"


def run_shard(session: Session, stage: Stage, heads: Sequence[Head]) -> ShardCount:
    """Make what is missing of this stage for these heads.

    Raises:
        StorageUnavailable: the file system refuses.
        SpinMeRoundError: more heads are quarantined than `execution.max_quarantined_share`.
    """
    states = [_state(session, stage, head) for head in heads]
    outcomes: list[Outcome | Literal["skipped"] | Failure] = [each for each in states if each != "missing"]
    progress().advance(stage.name, by=len(outcomes))
    missing = [head for head, state in zip(heads, states, strict=True) if state == "missing"]
    with session.pool.checkout() as worker, session.ledger.timed(stage.name):
        for head, result in _first_attempts(session, stage, missing, worker):
            made = _again(session, stage, head, worker, result) if isinstance(result, Exception) else result
            outcomes.append(made)
            progress().advance(stage.name)
    count = ShardCount(
        made=outcomes.count("made"),
        reused=outcomes.count("reused"),
        skipped=outcomes.count("skipped"),
        quarantined=tuple(outcome for outcome in outcomes if isinstance(outcome, Failure)),
    )
    session.ledger.add(stage.name, made=count.made, reused=count.reused)
    return count


def _state(session: Session, stage: Stage, head: Head) -> Literal["reused", "skipped", "missing"]:
    """What there is to do for a head now; inputs that have vanished are found out by the attempt, and made again."""
    if session.has(stage.name, head):
        return "reused"
    return "missing" if artifact_status(session, stage, head) == "waiting" else "skipped"


def _first_attempts(
    session: Session, stage: Stage, heads: Sequence[Head], worker: Worker
) -> Iterator[tuple[Head, Outcome | Exception]]:
    """What came of each head's first attempt, batch by batch."""
    size = 1
    while heads:
        session.raise_if_stopped()
        began, batch = monotonic(), heads[:size]
        results = _make(session, stage, batch, worker)
        each_s = (monotonic() - began) / len(results)
        size = max(1, min(LARGEST_BATCH, 2 * size, int(BATCH_S / each_s)))
        yield from zip(batch, results, strict=False)
        heads = heads[len(results) :]


def _make(session: Session, stage: Stage, heads: Sequence[Head], worker: Worker) -> list[Outcome | Exception]:
    """What came of these heads, of the first at least: a worker that is lost leaves the heads after its last one."""
    wanted = [(head, {name: session.keys[head.id][name] for name in (*stage.inputs, stage.name)}) for head in heads]
    results: list[Outcome | Exception] = []

    def hear(result: Outcome | Raised) -> None:
        results.append(result.exception() if isinstance(result, Raised) else result)

    arguments = (session.store.root, stage.name, session.stages[stage.name].sections, wanted)
    try:
        worker.call(_make_in_worker, *arguments, timeout_s=session.profile.execution.timeout_s, report=hear)
    except (CallFailed, WorkerLost, SpinMeRoundError) as error:
        results.append(error)
    return results[: len(heads)]


def _make_in_worker(
    root: Path | str,
    name: str,
    sections: Mapping[str, BaseModel],
    wanted: Sequence[tuple[Head, Mapping[str, str]]],
    report: Callable[[Any], None],
) -> None:
    store, stage = ArtifactStore(root), _bound_in_worker(name, sections)
    for head, keys in wanted:
        report(attempt(_make_one, store, stage, head, keys))


def _make_one(store: ArtifactStore, bound: BoundStage, head: Head, keys: Mapping[str, str]) -> Outcome:
    inputs = {name: keys[name] for name in bound.stage.inputs}
    if bound.key(head, inputs) != keys[bound.stage.name]:
        raise ConfigError(
            f"{bound.stage.name}: expected the weights and generator with which the run began, found that they have "
            "changed meanwhile; run it again"
        )
    return bound.make(store, head, inputs)


_bound: dict[str, BoundStage] = {}


def _bound_in_worker(name: str, sections: Mapping[str, BaseModel]) -> BoundStage:
    """The stage with its weights as this process found them when it was first asked for it, which it goes on to use."""
    if name not in _bound or _bound[name].sections != sections:
        _bound[name] = STAGES[name].bound(sections)
    return _bound[name]


def _again(session: Session, stage: Stage, head: Head, worker: Worker, reason: Exception) -> Outcome | Failure:
    """Try a head again that failed for this reason, as often as it may be, then quarantine it."""
    attempts = 1 + session.profile.execution.retries
    left, spare = attempts - 1, len(_before(stage))
    while True:
        if isinstance(reason, StorageUnavailable | ConfigError):
            session.stop(reason)
        session.raise_if_stopped()
        if isinstance(reason, _BROKEN_INPUT) and spare:  # no failure of this stage: each input may be remade once
            left, spare = left + 1, spare - 1
        if not left:
            return session.quarantine_head(stage.name, head, str(reason), getattr(reason, "traceback", ""), attempts)
        left -= 1
        unmade = _remake_inputs(session, stage, head, worker) if isinstance(reason, _BROKEN_INPUT) else None
        result = unmade or _make(session, stage, [head], worker)[0]
        if not isinstance(result, Exception):
            return result
        reason = result


def _remake_inputs(session: Session, stage: Stage, head: Head, worker: Worker) -> Exception | None:
    """An input turned out not to be whole, or to be gone: make it, and what it is made from, again."""
    for name in _before(stage):
        if not session.has(name, head):
            (result,) = _make(session, STAGES[name], [head], worker)
            if isinstance(result, Exception):
                return result
            session.ledger.add(name, made=1)
    return None


@cache
def _before(stage: Stage) -> tuple[str, ...]:
    """All stages without which this one does not get a head, in order."""
    needed = set(stage.needs)
    for each in reversed(HEAD_STAGES):
        if each.name in needed:
            needed |= set(each.needs)
    return tuple(each.name for each in HEAD_STAGES if each.name in needed)
