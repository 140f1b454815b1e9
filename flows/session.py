"""A run that goes on: the profile, the folder, the store, the warm workers and the counts, for all its flows.

The outermost flow opens the session and the flows inside it join it, so that a whole workflow shares one
pool of workers and one summary. Prefect's task threads find it in their context; only ids and keys cross
the boundary of a task.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from flows.ledger import Ledger
from flows.profile import Profile
from flows.progress import progress
from flows.run_folder import Place, RunFolder, open_run
from flows.summary import write_summary
from flows.workers import WorkerPool
from storage.artifacts import ArtifactStore
from storage.errors import ConfigError, SpinMeRoundError
from storage.failures import Failure
from tasks.generators import generator_of
from tasks.plan import plan_heads
from tasks.publish import Counts
from tasks.screen import load_verdict
from tasks.stage import Head, head_keys
from tasks.stages import HEAD_STAGES


@dataclass(kw_only=True)
class Session:
    """One run of one profile; every member is safe to use from the task threads."""

    profile: Profile
    folder: RunFolder
    store: ArtifactStore
    pool: WorkerPool
    ledger: Ledger = field(default_factory=Ledger)
    results: dict[str, Any] = field(default_factory=dict)
    """What the flows found, for the summary: dataset, training, evaluation, report."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _reason: SpinMeRoundError | None = None

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """All heads asked for, in order."""
        generator = generator_of({"generator": self.profile.generator})
        return tuple(plan_heads(generator.name, self.profile.plan))

    @cached_property
    def sections(self) -> Mapping[str, Mapping[str, BaseModel]]:
        """The sections of the profile that each stage reads."""
        return {stage.name: stage.sections(self.profile) for stage in HEAD_STAGES}

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, str]]:
        """Keys of all artifacts, by head and stage; known before anything is made."""
        return {head.id: head_keys(HEAD_STAGES, head, self.sections) for head in self.heads}

    def dropped(self, head: Head) -> tuple[str, ...]:
        """Why the screen dropped a head; empty where it kept it or has not seen it yet."""
        key = self.keys[head.id]["screen"]
        if not self.store.has("screen", key):
            return ()
        verdict = load_verdict(self.store.open("screen", key).path)
        return () if verdict.keep else tuple(verdict.reasons) or ("unnamed",)

    def census(self) -> tuple[list[Head], Counts]:
        """The written heads, and what became of all that were asked for."""
        given_up = {failure.subject for failure in self.quarantined()}
        first: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        written, quarantined = [], 0
        for head in self.heads:
            if why := self.dropped(head):
                first[why[0]] += 1
                reasons.update(why)
            elif self.store.has("write", self.keys[head.id]["write"]):
                written.append(head)
            else:
                quarantined += head.id in given_up
        counts = Counts(
            asked=len(self.heads),
            screened_out=dict(sorted(first.items())),
            screen_reasons=dict(sorted(reasons.items())),
            dropped=first.total(),
            quarantined=quarantined,
            written=len(written),
            pending=len(self.heads) - first.total() - quarantined - len(written),
        )
        return written, counts

    def quarantined(self) -> tuple[Failure, ...]:
        """The heads of this run that were given up, in this build or an earlier one."""
        ours = {(stage, key) for keys in self.keys.values() for stage, key in keys.items()}
        return tuple(failure for failure in self.store.failures() if (failure.stage, failure.key) in ours)

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
def joined(profile: Profile, place: Place) -> Iterator[Session]:
    """The session that goes on here, or a new one that ends with the block and then leaves its summary.

    Raises ConfigError where the folder is another run's or the generator can't be made of its options.
    """
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    session = _open(profile, place)
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


def _open(profile: Profile, place: Place) -> Session:
    try:
        generator_of({"generator": profile.generator})
    except SpinMeRoundError:
        raise
    except ValueError as error:
        raise ConfigError(f"generator: {' '.join(str(error).split())}") from error
    folder = open_run(place, profile.name)
    store = ArtifactStore(folder.store)
    if swept := store.sweep():
        progress().say(f"swept {len(swept)} leftovers of killed runs")
    return Session(profile=profile, folder=folder, store=store, pool=WorkerPool(worker_count(profile)))


def worker_count(profile: Profile) -> int:
    """How many worker processes a run of this profile has."""
    return profile.execution.workers or os.cpu_count() or 1
