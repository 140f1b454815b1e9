"""The session of a run: profile, folder, store, worker pool and counts, shared by all flows of the run.

The outermost flow opens the session and the flows inside it join it, so a workflow has one pool of workers and one
summary. Prefect's task threads find the session in their context; only ids and keys cross the boundary of a task.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.census import take_census
from spinmeround.flows.run.folder import Place, RunFolder, find_run, named_run, open_run
from spinmeround.flows.run.heads import RunHeads
from spinmeround.flows.run.ledger import Ledger
from spinmeround.flows.run.outcome import outcome_markdown
from spinmeround.flows.run.progress import BothProgress, progress, set_progress
from spinmeround.flows.run.quarantine import Quarantine
from spinmeround.flows.run.shown import Shown
from spinmeround.flows.run.summary import RunResult, write_summary
from spinmeround.flows.run.verdicts import FinalVerdict, Verdicts
from spinmeround.flows.run.workers import WorkerPool
from spinmeround.storage.artifacts import ArtifactStore, Failure, register_run
from spinmeround.storage.errors import ConfigError, SpinMeRoundError, as_config_error, one_line
from spinmeround.storage.provenance import made_in
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.gpus import visible_gpus
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.registry import HEAD_STAGES, PUBLISHED_STAGES
from spinmeround.tasks.heads.review import Review
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.screening.decisions import Decisions, GeneratorId, generator_id, unknown_ids
from spinmeround.tasks.stage import BoundStage, Head

if TYPE_CHECKING:
    from spinmeround.flows.run.engines import Engine


class Session:
    """One run of one profile. Every member is safe to use from the task threads, except `reload_decisions`."""

    def __init__(
        self,
        profile: Profile,
        folder: RunFolder,
        stages: dict[str, BoundStage[Any]],
        *,
        heads: tuple[Head, ...] | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        """A session of all heads of the run with workers of its own, or of these heads with these workers."""
        self.profile, self.folder = profile, folder
        self.stages = stages
        """The stages with the sections that they read and their weights, as of the start of the run."""
        self.store = ArtifactStore(folder.store)
        self._pool, self._making_pool = pool, threading.Lock()
        self.ledger = Ledger()
        self.shown = Shown()
        self.surveyed: set[str] = set()
        """Stages whose existing artifacts are counted."""
        self.results: dict[str, Any] = {}
        """Results of the flows for the summary: dataset, training, evaluation, report."""
        self.networks_checked = False
        """Whether the networks from outside were checked, which a run does once."""
        self.generator: GeneratorId = generator_id(profile.generator)
        self._opened = ExitStack()
        self._verdicts = Verdicts(self.store)
        self._given = heads
        self._heads = self._read_heads()
        self._stopped = threading.Event()
        self._reason: SpinMeRoundError | None = None

    @property
    def pool(self) -> WorkerPool:
        """The workers, made when they are first needed: a run that is only looked at may be on a machine without GPUs.

        Raises ConfigError for a GPU in `execution.gpus` that this machine lacks.
        """
        with self._making_pool:
            if self._pool is None:
                self._pool = _pool_of(self.profile)
            return self._pool

    @property
    def decisions_file(self) -> Path:
        """The file with the review decisions."""
        named = self.profile.review.decisions
        return Path(named).expanduser().absolute() if named else self.folder.decisions

    @property
    def decisions(self) -> Decisions:
        """The review decisions, as of the start of the run or the last `reload_decisions`."""
        return self._heads.decisions

    @property
    def heads(self) -> tuple[Head, ...]:
        """All heads of the run in order, with their decisions."""
        return self._heads.heads

    @property
    def by_id(self) -> Mapping[str, Head]:
        """All heads by id."""
        return self._heads.by_id

    @property
    def keys(self) -> Mapping[str, Mapping[str, str]]:
        """Artifact keys by head id and stage. They are known before any artifact exists."""
        return self._heads.keys

    @property
    def quarantine(self) -> Quarantine:
        """The heads of the run that failed for good."""
        return self._heads.quarantine

    def _read_heads(self) -> RunHeads:
        return RunHeads(
            profile=self.profile,
            store=self.store,
            stages=self.stages,
            generator=self.generator,
            decisions_file=self.decisions_file,
            given=self._given,
        )

    def reload_decisions(self) -> None:
        """Read the decisions again, with the heads and keys that follow. Must not be called while tasks run."""
        self._heads = self._read_heads()
        self.register()

    def register(self) -> None:
        """Record the artifacts of this run in the store, so that `store gc` keeps them."""
        register_run(self.store, self.folder.root, self.profile.name, self.keys)

    @cached_property
    def engine(self) -> "Engine":
        """Starts the task runs of the shards; opened when it is first needed."""
        from spinmeround.flows.run.engines import open_engine

        return self._opened.enter_context(open_engine(self.profile.execution, self.pool))

    def close(self) -> None:
        """End the workers and what starts the task runs."""
        if self._pool is not None:
            self._pool.close()
        self._opened.close()

    def on_gpu(self, stage: str) -> bool:
        """Whether the workers of a stage have a GPU each."""
        return self.pool.size(gpu=True) > 0 and self.stages[stage].on_gpu

    def workers_of(self, stage: str) -> int:
        """Number of workers that make the artifacts of a stage."""
        return self.pool.size(gpu=self.on_gpu(stage))

    def has(self, stage: str, head: Head) -> bool:
        """Whether a stage's artifact of a head exists."""
        return self.store.has(stage, self.keys[head.id][stage])

    def complete(self, head: Head) -> bool:
        """Whether all artifacts of a head exist that the dataset is joined from."""
        return all(self.has(stage, head) for stage in PUBLISHED_STAGES)

    def screen_verdicts(self) -> dict[str, Verdict]:
        """The screen's verdicts by head id, for the heads that are screened."""
        found = {head.id: self._verdicts.screen(self.keys[head.id]) for head in self.heads}
        return {name: verdict for name, verdict in found.items() if verdict is not None}

    def review(self, head: Head) -> Review | None:
        """The review of a head, derived from the screen's verdict if only that exists; None before that."""
        return self._verdicts.review(head, self.keys[head.id])

    def drop_reasons(self, head: Head) -> tuple[str, ...]:
        """Why screen or review dropped a head; empty for a head that is kept or not judged yet."""
        final = self._final_verdict(head)
        return () if final is None else final.reasons

    def _final_verdict(self, head: Head) -> FinalVerdict | None:
        return self._verdicts.final(head, self.keys[head.id])

    def census(self) -> tuple[list[Head], Counts]:
        """The heads that are ready to publish, and the counts of all heads."""
        return take_census(
            self.heads,
            verdict=self._final_verdict,
            written=self.complete,
            quarantined={failure.subject for failure in self.quarantine.failures()},
        )

    def quarantine_head(self, stage: str, head: Head, reason: str, traceback: str, attempts: int) -> Failure:
        """Quarantine a head. Stops the run if too many heads are quarantined."""
        failure = self.quarantine.add(stage, head.id, reason, traceback, attempts)
        try:
            self.quarantine.check()
        except SpinMeRoundError as error:
            self.stop(error)
            self.raise_if_stopped()
        return failure

    def stop(self, reason: SpinMeRoundError) -> None:
        """Make tasks that have not started return at once. The first reason counts."""
        if not self._stopped.is_set():
            self._reason = reason
            self._stopped.set()

    def go_on(self, max_quarantined_share: float) -> None:
        """Let tasks start again after `stop`, with another share of quarantined heads allowed."""
        self.quarantine.max_share = max_quarantined_share
        self._reason = None
        self._stopped.clear()

    def raise_if_stopped(self) -> None:
        """Raises the reason for which the run was stopped, if it was."""
        if self._reason is not None:
            raise self._reason

    def result(self, error: str | None = None) -> RunResult:
        """The outcome of the run so far, for its summary; `error` is why it failed."""
        _, counts = self.census()
        return RunResult(
            profile=self.profile,
            folder=self.folder,
            counts=counts,
            stages=self.ledger.stages(),
            results=self.results,
            error=error,
        )


_current: ContextVar[Session | None] = ContextVar("session", default=None)


def active_session() -> Session | None:
    """The session of the active flow; None in a process that has none."""
    return _current.get()


def current_session() -> Session:
    """The session of the active flow."""
    session = active_session()
    if session is None:
        raise RuntimeError("no active session: this task was called outside its flow")
    return session


@contextmanager
def view_session(profile: Profile, place: Place) -> Iterator[Session]:
    """A session that reads an existing run: it makes no artifact and writes no summary.

    Raises ConfigError if the run does not exist.
    """
    session = _open(profile, place, find_run)
    try:
        yield session
    finally:
        session.close()


def plan_session(profile: Profile, place: Place) -> Session:
    """A session of a run that need not exist, to query what it would make. It writes nothing.

    Raises ConfigError if the generator or the weights of a stage are not available here.
    """
    return Session(profile, named_run(place, profile.name), bound_stages(profile))


@contextmanager
def join_session(profile: Profile, place: Place, *, part: bool = False) -> Iterator[Session]:
    """The active session, or a new one that lasts as long as the block and writes its summary at the end.

    The session of a `part` of a run leaves the run's `summary.json` as it is. A block that fails has a summary, too.
    Raises ConfigError if the folder belongs to another run, or the generator or a stage's weights are not available.
    """
    from prefect.context import FlowRunContext

    from spinmeround.flows.run.progress_artifacts import ProgressArtifacts

    outer = _current.get()
    if outer is not None:
        yield outer
        return
    session = _open(profile, place)
    _check_decisions(session)
    if not profile.execution.address:  # else the workers are elsewhere, with GPUs of their own
        _ = session.pool
    session.register()
    active = FlowRunContext.get()
    session.shown.enabled = active is not None
    run = str(active.flow_run.id) if active is not None and active.flow_run is not None else ""
    token = _current.set(session)
    try:
        with made_in(run), set_progress(BothProgress(progress(), ProgressArtifacts(session.shown))):
            yield session
        _conclude(session, part=part)
    except BaseException as error:
        session.stop(SpinMeRoundError("the run ended before it was complete"))
        with suppress(Exception):  # the error of the block is the one to show
            _conclude(session, part=part, error=one_line(error) or type(error).__name__)
        raise
    finally:
        session.close()
        session.shown.close()
        _current.reset(token)


def _conclude(session: Session, *, part: bool, error: str | None = None) -> None:
    """Write the summary of a run that has ended, and show it in the UI."""
    from prefect.artifacts import create_markdown_artifact

    summary = write_summary(session.result(error), part=part)
    markdown = outcome_markdown(summary, session.quarantine.failures())
    session.shown.show(
        create_markdown_artifact, markdown, key="outcome", description="What became of the run", first=True
    )


def _open(profile: Profile, place: Place, folder_of: Callable[[Place, str], RunFolder] = open_run) -> Session:
    """A session of a run's folder, without what killed runs left in its store."""
    stages = bound_stages(profile)
    session = Session(profile, folder_of(place, profile.name), stages)
    _check_renderer(session)
    if removed := session.store.sweep():
        progress().say(f"removed {len(removed)} leftovers of killed runs")
    return session


def _check_renderer(session: Session) -> None:
    """Raise ConfigError if the workers, which see no GPU, would choose another renderer than this process has."""
    profile = session.profile
    if profile.execution.gpus in (0, ()) and profile.normals.renderer == "auto" and session.stages["normals"].on_gpu:
        raise ConfigError(
            "normals.renderer: expected embree or pytorch3d with workers that see no GPU (execution.gpus=0), got auto"
        )


def _check_decisions(session: Session) -> None:
    """Raise ConfigError for an unusable decisions file before any work starts; report decisions on unknown heads."""
    review, file = session.profile.review, session.decisions_file
    if review.decisions and not review.pause and not file.is_file():
        raise ConfigError(
            f"review.decisions: expected a decisions file at {file}, found none; "
            "'spinmeround review' with the same options creates it"
        )
    if unknown := unknown_ids(session.heads, session.decisions):
        names = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        progress().say(f"{file}: ignores {len(unknown)} decisions on heads that are not part of this run: {names}")


def bound_stages(profile: Profile) -> dict[str, BoundStage[Any]]:
    """The stages of a profile.

    Raises ConfigError if the generator, or the weights or renderer of a stage, are not available on this machine.
    """
    with as_config_error("generator: "):
        generator_of(profile.generator)
    with as_config_error():
        return {stage.name: stage.bound(stage.sections(profile)) for stage in HEAD_STAGES}


def _pool_of(profile: Profile) -> WorkerPool:
    """The workers of a run on this machine, with its GPUs."""
    visible, execution = visible_gpus(), profile.execution
    return WorkerPool(
        worker_count(profile),
        gpus=execution.chosen_gpus(visible),
        per_gpu=execution.workers_per_gpu,
        hide_gpus=bool(visible),
    )


def worker_count(profile: Profile) -> int:
    """Number of worker processes of a run on the CPU."""
    return profile.execution.workers or os.cpu_count() or 1
