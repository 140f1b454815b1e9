"""A run that goes on: the profile, the folder, the store, the warm workers and the counts, for all its flows.

The outermost flow opens the session and the flows inside it join it, so that a whole workflow shares one
pool of workers and one summary. Prefect's task threads find it in their context; only ids and keys cross
the boundary of a task.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place, RunFolder, find_run, named_run, open_run
from spinmeround.flows.run.ledger import Ledger
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.summary import write_summary
from spinmeround.flows.run.workers import WorkerPool
from spinmeround.storage.artifacts import ArtifactStore, Failure, register_run
from spinmeround.storage.errors import ConfigError, SpinMeRoundError, as_config_error
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.plan import plan_heads
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.heads.review import Review, load_review, review
from spinmeround.tasks.heads.screen import Verdict, load_verdict
from spinmeround.tasks.screening.decisions import (
    Decisions,
    GeneratorId,
    generator_id,
    load_decisions,
    unknown_ids,
    with_decisions,
)
from spinmeround.tasks.stage import GATE, BoundStage, Head, bound_keys

RETRY_HINT = "Once the cause is mended, run 'spinmeround build' again with --retry-quarantined"


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalVerdict:
    """What a run needs to know of every head's review."""

    keep: bool
    reasons: tuple[str, ...]
    rescued: bool


@dataclass(kw_only=True)
class Session:
    """One run of one profile; every member is safe to use from the task threads."""

    profile: Profile
    folder: RunFolder
    store: ArtifactStore
    pool: WorkerPool
    stages: Mapping[str, BoundStage]
    """The stages with what they read of the profile, and their weights as they were when the run began."""
    ledger: Ledger = field(default_factory=Ledger)
    results: dict[str, Any] = field(default_factory=dict)
    """What the flows found, for the summary: dataset, training, evaluation, report."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _reason: SpinMeRoundError | None = None
    _verdicts: dict[str, FinalVerdict] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def generator(self) -> GeneratorId:
        """Whose heads these are."""
        return generator_id({"generator": self.profile.generator})

    @property
    def decisions_file(self) -> Path:
        """Where a person's decisions are."""
        named = self.profile.review.decisions
        return Path(named).expanduser().absolute() if named else self.folder.decisions

    @cached_property
    def decisions(self) -> Decisions:
        """A person's decisions, as they stood when the run began or `reread` was called."""
        return load_decisions(self.decisions_file, self.generator)

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """All heads asked for, in order, with the decisions on them."""
        return tuple(with_decisions(plan_heads(self.generator.name, self.profile.plan), self.decisions))

    @cached_property
    def by_id(self) -> Mapping[str, Head]:
        """All heads by their ids."""
        return {head.id: head for head in self.heads}

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, str]]:
        """Keys of all artifacts, by head and stage; known before anything is made."""
        stages = list(self.stages.values())
        return {head.id: bound_keys(stages, head) for head in self.heads}

    def has(self, stage: str, head: Head) -> bool:
        """Whether a stage's artifact of a head is there."""
        return self.store.has(stage, self.keys[head.id][stage])

    def reread(self) -> None:
        """Take the decisions as they stand now, and the keys that follow. To be called while no task runs."""
        for name in ("decisions", "heads", "by_id", "keys", "given_up"):
            self.__dict__.pop(name, None)
        self.claim()

    def claim(self) -> None:
        """Tell the store what this run asks for, so that `store gc` keeps it."""
        register_run(self.store, self.folder.root, self.profile.name, self.keys)

    def screened(self) -> dict[str, Verdict]:
        """The screen's verdicts by id, of the heads that got as far."""
        keys = {head.id: self.keys[head.id]["screen"] for head in self.heads}
        there = {name: key for name, key in keys.items() if self.store.has("screen", key)}
        return {name: load_verdict(self.store.verify("screen", key).path) for name, key in there.items()}

    def review(self, head: Head) -> Review | None:
        """The final verdict on a head, also where only the screen has been run so far; None before that."""
        keys = self.keys[head.id]
        if self.has(GATE, head):
            return load_review(self.store.verify(GATE, keys[GATE]).path)
        if self.has("screen", head):
            return review(load_verdict(self.store.verify("screen", keys["screen"]).path), head.decision)
        return None

    def verdict(self, head: Head) -> FinalVerdict | None:
        """The final verdict on a head, read once a run: content does not change under its key."""
        key = self.keys[head.id][GATE]
        if key not in self._verdicts:
            if (final := self.review(head)) is None:
                return None
            self._verdicts[key] = FinalVerdict(keep=final.keep, reasons=final.reasons, rescued=final.rescued)
        return self._verdicts[key]

    def dropped(self, head: Head) -> tuple[str, ...]:
        """Why screen or review dropped a head; empty where it is kept or has not been judged yet."""
        final = self.verdict(head)
        return () if final is None else final.reasons

    def census(self) -> tuple[list[Head], Counts]:
        """The written heads, and what became of all that were asked for."""
        lost = {failure.subject for failure in self.quarantined()}
        first: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        written, quarantined, rescued = [], 0, 0
        for head in self.heads:
            final = self.verdict(head)
            rescued += final is not None and final.rescued
            if final is not None and not final.keep:
                first[final.reasons[0]] += 1
                reasons.update(final.reasons)
            elif self.has("write", head):
                written.append(head)
            else:
                quarantined += head.id in lost
        counts = Counts(
            asked=len(self.heads),
            screened_out=dict(sorted(first.items())),
            screen_reasons=dict(sorted(reasons.items())),
            dropped=first.total(),
            kept_by_review=rescued,
            quarantined=quarantined,
            written=len(written),
            pending=len(self.heads) - first.total() - quarantined - len(written),
        )
        return written, counts

    @cached_property
    def given_up(self) -> dict[tuple[str, str], Failure]:
        """Failures of this run's artifacts, by stage and key: those of earlier builds, and what this one adds."""
        return {
            (failure.stage, failure.key): failure
            for failure in self.store.failures()
            if self.keys.get(failure.subject, {}).get(failure.stage) == failure.key
        }

    def quarantined(self) -> tuple[Failure, ...]:
        """The heads of this run that were given up, in this build or an earlier one."""
        with self._lock:
            return tuple(self.given_up.values())

    def give_up(self, stage: str, head: Head, reason: str, traceback: str, attempts: int) -> Failure:
        """Quarantine a head: no build tries it again unasked. Ends the run where too many are."""
        key = self.keys[head.id][stage]
        failure = self.store.record_failure(stage, key, head.id, " ".join(reason.split()), traceback, attempts)
        with self._lock:
            self.given_up[stage, key] = failure
        try:
            self.check_quarantined()
        except SpinMeRoundError as error:
            self.end(error)
            self.check()
        return failure

    def retry_quarantined(self) -> None:
        """Forget this run's failures, so that its heads are tried again; a shared store keeps those of other runs."""
        self.store.clear_failures((failure.stage, failure.key) for failure in self.quarantined())
        self.__dict__.pop("given_up")

    def check_quarantined(self) -> None:
        """Raises SpinMeRoundError where more heads are quarantined than `execution.max_quarantined_share` allows."""
        lost = {failure.subject: failure for failure in self.quarantined()}
        most = self.profile.execution.max_quarantined_share * len(self.heads)
        if len(lost) > most:
            reasons = "; ".join(f"{name} in {each.stage}: {each.reason}" for name, each in list(lost.items())[:3])
            raise SpinMeRoundError(
                f"{len(lost)} of {len(self.heads)} heads are quarantined, execution.max_quarantined_share allows "
                f"{most:g}: {reasons}. {RETRY_HINT}"
            )

    def end(self, reason: SpinMeRoundError) -> None:
        """Let the tasks that have not begun return at once; `check` raises the first reason."""
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()

    def check(self) -> None:
        """Raises the reason for which the run was ended, if it was."""
        if self._reason is not None:
            raise self._reason


_current: ContextVar[Session | None] = ContextVar("session", default=None)


def current() -> Session:
    """The session of the flow that goes on here."""
    session = _current.get()
    if session is None:
        raise RuntimeError("a task of these flows was called outside a flow")
    return session


@contextmanager
def looked_at(profile: Profile, place: Place) -> Iterator[Session]:
    """A session to look at, which makes nothing and leaves no summary; its decisions file need not be there yet.

    Raises ConfigError where there is no such run.
    """
    session = _open(profile, place, find_run)
    try:
        yield session
    finally:
        session.pool.close()


def unopened(profile: Profile, place: Place) -> Session:
    """A session of a run that need not be there, to ask what it would make; makes nothing and ends no other's work.

    Raises ConfigError where the generator can't be made of its options.
    """
    stages, folder = _bound(profile), named_run(place, profile.name)
    pool = WorkerPool(worker_count(profile))
    return Session(profile=profile, folder=folder, store=ArtifactStore(folder.store), pool=pool, stages=stages)


@contextmanager
def joined(profile: Profile, place: Place) -> Iterator[Session]:
    """The session that goes on here, or a new one that ends with the block and then leaves its summary.

    Raises ConfigError where the folder is another run's or the generator can't be made of its options.
    """
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    session = _open(profile, place)
    _check_decisions(session)
    session.claim()
    token = _current.set(session)
    try:
        yield session
        write_summary(session)
    except BaseException:
        session.end(SpinMeRoundError("the run was ended before it was finished"))
        raise
    finally:
        session.pool.close()
        _current.reset(token)


def _open(profile: Profile, place: Place, folder_of: Callable[[Place, str], RunFolder] = open_run) -> Session:
    stages = _bound(profile)
    folder = folder_of(place, profile.name)
    store = ArtifactStore(folder.store)
    if swept := store.sweep():
        progress().say(f"swept {len(swept)} leftovers of killed runs")
    return Session(profile=profile, folder=folder, store=store, pool=WorkerPool(worker_count(profile)), stages=stages)


def _check_decisions(session: Session) -> None:
    """Raise ConfigError for a decisions file that can't be used, before anything is made; tell of unknown heads."""
    review, file = session.profile.review, session.decisions_file
    if review.decisions and not review.pause and not file.is_file():
        raise ConfigError(
            f"review.decisions: expected a decisions file at {file}, found none; "
            "'spinmeround review' with the same options makes it"
        )
    if unknown := unknown_ids(session.heads, session.decisions):
        names = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        progress().say(f"{file}: {len(unknown)} decisions are on heads that are not asked for and do nothing: {names}")


def _bound(profile: Profile) -> dict[str, BoundStage]:
    """The stages of a profile.

    Raises ConfigError where the generator, or the weights or renderer of a stage, can't be had on this machine.
    """
    with as_config_error("generator: "):
        generator_of({"generator": profile.generator})
    with as_config_error():
        return {stage.name: stage.bound(stage.sections(profile)) for stage in HEAD_STAGES}


def worker_count(profile: Profile) -> int:
    """How many worker processes a run of this profile has."""
    return profile.execution.workers or os.cpu_count() or 1
