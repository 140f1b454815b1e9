"""One stage for a shard of heads: what a task run does.

Each head is made in a worker process, tried again when it fails, and then quarantined with its reason, so
that one bad head never stops a build. What stops one: a file system that refuses, or more quarantined
heads than the profile puts up with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from flows.progress import progress
from flows.session import Session
from flows.workers import CallFailed, Worker, WorkerLost
from storage.artifacts import ArtifactStore
from storage.errors import CorruptArtifact, SpinMeRoundError, StorageUnavailable
from storage.failures import Failure
from tasks.stage import Head, Outcome, Stage, make_head
from tasks.stages import HEAD_STAGES

STAGES = {stage.name: stage for stage in HEAD_STAGES}


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


def waiting(session: Session, stage: Stage, head: Head) -> bool:
    """Whether this stage's artifact of a head is neither there, nor dropped by screen or review, nor given up.

    Raises CorruptArtifact where the artifact is there but not whole; it has then been moved aside.
    """
    keys = session.keys[head.id]
    if session.store.has(stage.name, keys[stage.name]):
        session.store.open(stage.name, keys[stage.name])
        return False
    if stage.gated and session.dropped(head):
        return False
    return not any(session.store.failure(name, keys[name]) for name in (*_before(stage), stage.name))


def run_shard(session: Session, stage: Stage, heads: Sequence[Head]) -> ShardCount:
    """Make what is missing of this stage for these heads.

    Raises:
        StorageUnavailable: the file system refuses.
        SpinMeRoundError: more heads are quarantined than `execution.max_quarantined_share`.
    """
    outcomes = []
    with session.pool.checkout() as worker:
        for head in heads:
            session.check()
            with session.ledger.timed(stage.name):
                outcomes.append(_one_head(session, stage, head, worker))
            progress().advance(stage.name)
    count = ShardCount(
        made=outcomes.count("made"),
        reused=outcomes.count("reused"),
        skipped=outcomes.count("skipped"),
        quarantined=tuple(outcome for outcome in outcomes if isinstance(outcome, Failure)),
    )
    session.ledger.add(stage.name, made=count.made, reused=count.reused)
    return count


def _one_head(session: Session, stage: Stage, head: Head, worker: Worker) -> Outcome | Literal["skipped"] | Failure:
    keys = session.keys[head.id]
    if session.store.has(stage.name, keys[stage.name]):
        return "reused"
    has_inputs = all(session.store.has(name, keys[name]) for name in stage.needs)
    if not has_inputs or not waiting(session, stage, head):
        return "skipped"
    return _make_or_quarantine(session, stage, head, worker)


def _make_or_quarantine(session: Session, stage: Stage, head: Head, worker: Worker) -> Outcome | Failure:
    execution = session.profile.execution
    attempts, left = 1 + execution.retries, 1 + execution.retries
    spare = len(_before(stage))
    reason: Exception | None = None
    while left:
        left -= 1
        try:
            if isinstance(reason, CorruptArtifact):
                _remake_inputs(session, stage, head, worker, execution.timeout_s)
            return _make(session, stage, head, worker, execution.timeout_s)
        except StorageUnavailable as error:
            session.end(error)
            raise
        except (CallFailed, WorkerLost, SpinMeRoundError) as error:
            session.check()
            reason = error
            if isinstance(error, CorruptArtifact) and spare:  # no failure of this stage: each input may be remade once
                left, spare = left + 1, spare - 1
    return _quarantine(session, stage, head, str(reason), getattr(reason, "traceback", ""), attempts)


def _make(session: Session, stage: Stage, head: Head, worker: Worker, timeout_s: float) -> Outcome:
    keys = session.keys[head.id]
    inputs = {name: keys[name] for name in stage.inputs}
    return worker.call(
        _make_in_worker, session.store.root, stage.name, head, session.sections[stage.name], inputs, timeout_s=timeout_s
    )


def _make_in_worker(
    root: Path, stage: str, head: Head, sections: Mapping[str, BaseModel], inputs: Mapping[str, str]
) -> Outcome:
    return make_head(ArtifactStore(root), STAGES[stage], head, sections, inputs)


def _remake_inputs(session: Session, stage: Stage, head: Head, worker: Worker, timeout_s: float) -> None:
    """An input turned out not to be whole and was moved aside: make it, and what it is made from, again."""
    for name in _before(stage):
        if not session.store.has(name, session.keys[head.id][name]):
            _make(session, STAGES[name], head, worker, timeout_s)
            session.ledger.add(name, made=1)


def _quarantine(session: Session, stage: Stage, head: Head, reason: str, traceback: str, attempts: int) -> Failure:
    failure = session.store.record_failure(
        stage.name, session.keys[head.id][stage.name], head.id, " ".join(reason.split()), traceback, attempts
    )
    try:
        session.check_quarantined()
    except SpinMeRoundError as error:
        session.end(error)
        session.check()
    return failure


def _before(stage: Stage) -> tuple[str, ...]:
    """All stages without which this one does not get a head, in order."""
    needed = set(stage.needs)
    for each in reversed(HEAD_STAGES):
        if each.name in needed:
            needed |= set(each.needs)
    return tuple(each.name for each in HEAD_STAGES if each.name in needed)
