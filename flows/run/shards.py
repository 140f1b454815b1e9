"""One stage for a shard of heads, which one task run covers.

Each head is made in a worker process, retried if it fails, and then quarantined with its reason, so one bad head
never stops a build. A build stops if the environment fails (the file system, a GPU, memory), or if more heads are
quarantined than the profile allows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal

from spinmeround.flows.run.ledger import StageCount
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session
from spinmeround.flows.run.workers import CallFailed, Raised, Worker, WorkerLost, attempt
from spinmeround.storage.artifacts import ArtifactStore, Failure
from spinmeround.storage.errors import (
    ConfigError,
    CorruptArtifact,
    EnvironmentUnavailable,
    LockHeld,
    MissingArtifact,
    SpinMeRoundError,
)
from spinmeround.storage.extras import optional_dependency
from spinmeround.storage.provenance import flow_run, made_in
from spinmeround.tasks.heads.registry import HEAD_STAGES, STAGES_BY_NAME
from spinmeround.tasks.stage import BoundStage, Head, Outcome, Stage, StageSections

BATCH_S, LARGEST_BATCH = 1.0, 64
"""Target duration and largest size of the batches of heads that a worker gets in one call."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
"""Time between two looks at heads that another build is making."""
ArtifactStatus = Literal["exists", "missing", "left out"]
_ENVIRONMENT = (EnvironmentUnavailable, ConfigError)
"""Errors that affect every head: they stop the run and quarantine no head."""
_BROKEN_INPUT = (CorruptArtifact, MissingArtifact)
_Outcome = Outcome | Literal["skipped"] | Failure


@dataclass(frozen=True, kw_only=True)
class ShardCount:
    """Outcomes of the heads of a shard; `skipped` heads were dropped or quarantined before this stage."""

    made: int = 0
    reused: int = 0
    skipped: int = 0
    quarantined: tuple[Failure, ...] = ()
    elsewhere: Mapping[str, StageCount] = field(default_factory=dict)
    """What a shard that ran in another process counted for the run's ledger, by stage."""
    failures: tuple[Failure, ...] = ()
    """All failures of its heads in the store, of such a shard: another build may have recorded some."""

    def __str__(self) -> str:
        parts = {
            "made": self.made,
            "reused": self.reused,
            "skipped": self.skipped,
            "quarantined": len(self.quarantined),
        }
        return ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "nothing to do"


def artifact_status(session: Session, stage: Stage[Any], head: Head) -> ArtifactStatus:
    """Whether a stage's artifact of a head exists, is missing, or is left out: the head was dropped or quarantined.

    Raises CorruptArtifact if the artifact exists but does not match its manifest; it was moved aside.
    """
    keys = session.keys[head.id]
    if session.has(stage.name, head):
        with suppress(MissingArtifact):  # another process has moved it aside meanwhile
            session.store.open(stage.name, keys[stage.name])
            return "exists"
    if stage.gated and session.drop_reasons(head):
        return "left out"
    quarantined = any((name, keys[name]) in session.quarantine for name in (*_before(stage), stage.name))
    return "left out" if quarantined else "missing"


def run_shard(session: Session, stage: Stage[Any], heads: Sequence[Head]) -> ShardCount:
    """Make the missing artifacts of a stage for these heads.

    Raises:
        EnvironmentUnavailable: the file system, a GPU or memory fails.
        SpinMeRoundError: more heads are quarantined than `execution.max_quarantined_share`.
    """
    outcomes: list[_Outcome] = []
    while heads:
        heads = _run_unlocked(session, stage, heads, outcomes)
        _wait_for_another_build(session, stage, heads)
    return ShardCount(
        made=outcomes.count("made"),
        reused=outcomes.count("reused"),
        skipped=outcomes.count("skipped"),
        quarantined=tuple(outcome for outcome in outcomes if isinstance(outcome, Failure)),
    )


def _run_unlocked(session: Session, stage: Stage[Any], heads: Sequence[Head], outcomes: list[_Outcome]) -> list[Head]:
    """Make what is missing of these heads and add to the outcomes; returns those that another build is making."""
    states = [_state(session, stage, head) for head in heads]
    known: list[_Outcome] = [each for each in states if each != "missing"]
    _count(session, stage, known)
    outcomes += known
    progress().advance(stage.name, by=len(known))
    locked: list[Head] = []
    missing = [head for head, state in zip(heads, states, strict=True) if state == "missing"]
    if not missing:
        return locked
    with session.pool.checkout(gpu=session.on_gpu(stage.name)) as worker, session.ledger.timed(stage.name):
        for batch in _first_attempts(session, stage, missing, worker):
            _count(session, stage, [result for _, result in batch])
            for head, result in batch:
                if isinstance(result, LockHeld):
                    locked.append(head)
                    continue
                if isinstance(result, Exception):
                    outcome = _retry(session, stage, head, worker, result)
                    _count(session, stage, [outcome])
                    outcomes.append(outcome)
                else:
                    outcomes.append(result)
                progress().advance(stage.name)
    return locked


def _wait_for_another_build(session: Session, stage: Stage[Any], heads: Sequence[Head]) -> None:
    """Wait until another build has finished one of these heads or given it up; meanwhile no worker is held."""
    pause_s = _FIRST_PAUSE_S
    while heads:
        session.raise_if_stopped()
        for head in heads:
            if session.has(stage.name, head) or not session.store.locked(stage.name, session.keys[head.id][stage.name]):
                return
        sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, 1.5 * pause_s)


def _count(session: Session, stage: Stage[Any], outcomes: Sequence[object]) -> None:
    """Count what was made at once: a failure of the next head may end the run."""
    session.ledger.add(stage.name, made=outcomes.count("made"), reused=outcomes.count("reused"))


def _state(session: Session, stage: Stage[Any], head: Head) -> Literal["reused", "skipped", "missing"]:
    """The state of a head now. The attempt detects inputs that have vanished, and makes them again."""
    if session.has(stage.name, head):
        return "reused"
    return "missing" if artifact_status(session, stage, head) == "missing" else "skipped"


def _first_attempts(
    session: Session, stage: Stage[Any], heads: Sequence[Head], worker: Worker
) -> Iterator[list[tuple[Head, Outcome | Exception]]]:
    """The result of each head's first attempt, batch by batch."""
    size = 1
    while heads:
        session.raise_if_stopped()
        began, batch = monotonic(), heads[:size]
        results = _make(session, stage, batch, worker, patience_s=0.0)
        if ours := sum(not isinstance(result, LockHeld) for result in results):
            each_s = (monotonic() - began) / ours
            size = max(1, min(LARGEST_BATCH, 2 * size, int(BATCH_S / each_s)))
        yield list(zip(batch, results, strict=False))
        heads = heads[len(results) :]


def _make(
    session: Session, stage: Stage[Any], heads: Sequence[Head], worker: Worker, *, patience_s: float | None = None
) -> list[Outcome | Exception]:
    """Results of the first heads, at least of one: a lost worker leaves the remaining heads without a result.

    The result of a head that another build still makes after `patience_s` is LockHeld.
    """
    wanted = [(head, {name: session.keys[head.id][name] for name in (*stage.inputs, stage.name)}) for head in heads]
    results: list[Outcome | Exception] = []

    def on_result(result: Outcome | Raised) -> None:
        results.append(result.exception() if isinstance(result, Raised) else result)

    arguments = (session.store.root, stage.name, session.stages[stage.name].sections, wanted, patience_s, flow_run())
    try:
        worker.call(_make_in_worker, *arguments, timeout_s=session.profile.execution.timeout_s, report=on_result)
    except (CallFailed, WorkerLost, SpinMeRoundError) as error:
        results.append(error)
    return results[: len(heads)]


def _make_in_worker(
    root: Path | str,
    name: str,
    sections: StageSections,
    wanted: Sequence[tuple[Head, Mapping[str, str]]],
    patience_s: float | None,
    run: str,
    report: Callable[[Any], None],
) -> None:
    with optional_dependency(f"stage {name}"):
        store, stage = ArtifactStore(root), _bound_in_worker(name, sections)
    with made_in(run):
        for head, keys in wanted:
            report(attempt(_make_one, store, stage, head, keys, patience_s))


def _make_one(
    store: ArtifactStore, bound: BoundStage[Any], head: Head, keys: Mapping[str, str], patience_s: float | None
) -> Outcome:
    inputs = {name: keys[name] for name in bound.stage.inputs}
    if bound.key(head, inputs) != keys[bound.stage.name]:
        raise ConfigError(
            f"{bound.stage.name}: expected the weights and generator that the run began with, found that they have "
            "changed since; run it again"
        )
    with optional_dependency(f"stage {bound.stage.name}"):
        return bound.make(store, head, inputs, patience_s=patience_s)


_bound: dict[str, BoundStage[Any]] = {}


def _bound_in_worker(name: str, sections: StageSections) -> BoundStage[Any]:
    """The stage with its weights as this process first found them."""
    if name not in _bound or _bound[name].sections != sections:
        _bound[name] = STAGES_BY_NAME[name].bound(sections)
    return _bound[name]


def _retry(session: Session, stage: Stage[Any], head: Head, worker: Worker, reason: Exception) -> Outcome | Failure:
    """Retry a head that failed for this reason, as often as `execution.retries` allows, then quarantine it."""
    attempts = 1 + session.profile.execution.retries
    left, spare = attempts - 1, len(_before(stage))
    while True:
        if isinstance(reason, _ENVIRONMENT):
            session.stop(reason)
        session.raise_if_stopped()
        if isinstance(reason, _BROKEN_INPUT) and spare:  # not a failure of this stage: each input is remade once
            left, spare = left + 1, spare - 1
        if not left:
            return session.quarantine_head(stage.name, head, str(reason), getattr(reason, "traceback", ""), attempts)
        left -= 1
        unmade = _remake_inputs(session, stage, head, worker) if isinstance(reason, _BROKEN_INPUT) else None
        result = unmade or _make(session, stage, [head], worker)[0]
        if not isinstance(result, Exception):
            return result
        reason = result


def _remake_inputs(session: Session, stage: Stage[Any], head: Head, worker: Worker) -> Exception | None:
    """Make missing or damaged inputs again, and their inputs; returns the failure of one, else None."""
    for name in _before(stage):
        if not session.has(name, head):
            (result,) = _make(session, STAGES_BY_NAME[name], [head], worker)
            if isinstance(result, Exception):
                return result
            session.ledger.add(name, made=1)
    return None


@cache
def _before(stage: Stage[Any]) -> tuple[str, ...]:
    """All stages that a head has passed before this one, in order."""
    needed = set(stage.needs)
    for each in reversed(HEAD_STAGES):
        if each.name in needed:
            needed |= set(each.needs)
    return tuple(each.name for each in HEAD_STAGES if each.name in needed)
