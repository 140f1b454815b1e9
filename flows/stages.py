"""The stages of the heads as Prefect task runs: one per shard with missing artifacts.

A stage without missing artifacts is one task run, shown as cached. Keys are known before anything is made, so all
task runs are submitted at once. Each waits for the task runs of the same shard in the stages that it needs, so no
stage waits for the slowest head of the stage before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import Annotated, Any, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.flows import Flow
from prefect.futures import PrefectFuture, as_completed, wait
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task
from pydantic import Field

from spinmeround.flows.profile import Profile, ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.plain_shards import plain_heads, plain_run, run_plain_shard
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.selection import select_heads
from spinmeround.flows.run.session import Session, join_session, worker_count
from spinmeround.flows.run.shards import ShardCount, artifact_status
from spinmeround.flows.run.shown import picture_markdown
from spinmeround.storage.errors import ConfigError, CorruptArtifact, EnvironmentUnavailable, SpinMeRoundError, one_line
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.markdown import markdown_table
from spinmeround.tasks.stage import Head, Outcome, Stage

TASK_OPTIONS: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "retries": 0}
"""The store, not Prefect, decides what is done; tasks return only ids and counts."""
_LISTED = 100
"""Heads that an artifact in the UI lists."""


@task(name="shard", **TASK_OPTIONS)
def shard_task(run: dict[str, Any], stage: str, heads: list[dict[str, Any]]) -> State[ShardCount] | ShardCount:
    """Make the missing artifacts of a stage for these heads, all given as plain values (`plain_shards`)."""
    count, logger = run_plain_shard(run, stage, heads), get_run_logger()
    logger.info("%s: %s", stage, count)
    for failure in count.quarantined:
        logger.warning("%s quarantined in %s: %s\n%s", failure.subject, stage, failure.reason, failure.traceback)
        progress().say(f"quarantined {failure.subject} in {stage}: {failure.reason}")
    return Completed(message=str(count), data=count)


@task(name="reused", **TASK_OPTIONS)
def reused_task(stage: str, heads: int) -> State[ShardCount]:
    """A stage without missing artifacts."""
    return Completed(name="Cached", message=f"all {heads} reused", data=ShardCount(reused=heads))


def submit(task_: Task[..., Any], *args: Any, after: Iterable[PrefectFuture[Any]] = ()) -> PrefectFuture[Any]:
    """Submit a task that waits for other task runs."""
    return task_.submit(*args, return_state=False, wait_for=list(after))


def state_name(outcome: Outcome) -> str:
    """Name of the state, in the UI, of a task run that makes or reuses one artifact."""
    return "Cached" if outcome == "reused" else "Completed"


Runs = dict[int, PrefectFuture[ShardCount]]
"""Task runs of one stage by shard."""


def run_stages(
    session: Session,
    stages: Sequence[Stage[Any]],
    wait_for: Sequence[PrefectFuture[Any]] = (),
    heads: Sequence[Head] | None = None,
) -> list[PrefectFuture[ShardCount]]:
    """Make the missing artifacts of these stages, for these or all heads, as task runs of the active flow.

    Returns the task runs of the stages that no other of them needs.

    Raises:
        CorruptArtifact: artifacts do not match their manifests; they were moved aside.
        EnvironmentUnavailable, SpinMeRoundError: errors that stop a build.
    """
    if heads is None:  # a person who tries some heads again does so because too many have failed
        session.quarantine.check()
    found = _survey(session, stages, session.heads if heads is None else heads)
    runs: dict[str, Runs] = {}
    for stage in _in_turn(session, stages):
        runs[stage.name] = _submit(session, stage, found[stage.name], runs, wait_for)
    if session.engine.elsewhere:
        _collect(session, {stage.name: _distinct(runs[stage.name].values()) for stage in stages})
    wait([run for shards in runs.values() for run in shards.values()])
    session.raise_if_stopped()
    for stage in stages:
        counts = [run.result() for run in _distinct(runs[stage.name].values())]
        if any(count.made for count in counts):
            made = [session.heads[index] for index in found[stage.name].missing]
            session.shown.show(_show_pictures, session, stage.name, made)
    needed = {name for stage in stages for name in stage.needs}
    return _distinct(run for name, shards in runs.items() if name not in needed for run in shards.values())


def _collect(session: Session, runs: Mapping[str, Sequence[PrefectFuture[ShardCount]]]) -> None:
    """Count in the session what task runs in other processes have made, as they end.

    Raises what stops the run: the first error of a task run, or TooManyQuarantined. Those that have not begun are
    cancelled then.
    """
    stage_of = {run.task_run_id: stage for stage, shards in runs.items() for run in shards}
    everything = [run for shards in runs.values() for run in shards]
    try:
        for each in as_completed(everything):
            _note(session, stage_of[each.task_run_id], each)
    except SpinMeRoundError:
        session.engine.cancel(everything)
        raise


def _note(session: Session, stage: str, each: PrefectFuture[ShardCount]) -> None:
    """Count in the session what one task run has made."""
    try:
        count = each.result()
    except SpinMeRoundError as error:
        session.stop(error)
        raise
    except Exception as error:
        raise EnvironmentUnavailable(
            f"{stage}: a task run ended without a result ({one_line(error)}); see the log of its worker"
        ) from error
    session.ledger.merge(count.elsewhere)
    for failure in count.failures:
        session.quarantine.note(failure)
    for failure in count.quarantined if count.elsewhere else ():
        progress().say(f"quarantined {failure.subject} in {stage}: {failure.reason}")
    if count.failures:
        session.quarantine.check()
    if count.elsewhere:
        progress().advance(stage, by=count.made + count.reused + count.skipped + len(count.quarantined))


def _in_turn(session: Session, stages: Sequence[Stage[Any]]) -> list[Stage[Any]]:
    """The stages in the order in which their task runs queue: by the number of stages on a GPU before them.

    Otherwise those that wait for the last stage on a GPU would hold up others on the CPU that can go on beside it.
    """
    before: dict[str, set[str]] = {}
    for stage in stages:
        direct = {name for name in stage.needs if name in before}
        before[stage.name] = direct.union(*(before[name] for name in direct))
    return sorted(stages, key=lambda stage: sum(_on_gpu(session, name) for name in before[stage.name]))


def _on_gpu(session: Session, stage: str) -> bool:
    """Whether the task runs of a stage need a worker with a GPU."""
    return session.engine.gpus and session.stages[stage].on_gpu


@dataclass(kw_only=True)
class _Found:
    """Of one stage: the number of existing artifacts, and the indices of the heads to make."""

    present: int = 0
    missing: list[int] = field(default_factory=list)


def _survey(session: Session, stages: Sequence[Stage[Any]], heads: Sequence[Head]) -> dict[str, _Found]:
    """Existing and missing artifacts of each stage for these heads, as far as the verdicts on them are known.

    Excludes heads whose inputs neither exist nor are made by these stages.
    """
    corrupt: list[CorruptArtifact] = []
    found = {stage.name: _Found() for stage in stages}
    given = {stage.name: [name for name in stage.needs if name not in found] for stage in stages}
    chosen = {head.id for head in heads}
    indexed = [(index, head) for index, head in enumerate(session.heads) if head.id in chosen]
    for stage, (index, head) in product(stages, indexed):
        try:
            state = artifact_status(session, stage, head)
            found[stage.name].present += state == "exists"
            if state == "missing" and all(session.has(name, head) for name in given[stage.name]):
                found[stage.name].missing.append(index)
        except CorruptArtifact as error:
            corrupt.append(error)
    if corrupt:
        more = f" (and {len(corrupt) - 1} more)" if len(corrupt) > 1 else ""
        raise CorruptArtifact(f"{corrupt[0]}{more}")
    return found


def _submit(
    session: Session,
    stage: Stage[Any],
    found: _Found,
    runs: Mapping[str, Runs],
    wait_for: Sequence[PrefectFuture[Any]],
) -> Runs:
    size = session.profile.execution.heads_per_shard(len(session.heads))
    shards = range(-(-len(session.heads) // size))
    upstream = [name for name in stage.needs if name in runs]
    before = {
        shard: [runs[name][shard] for name in upstream if shard in runs[name]] or list(wait_for) for shard in shards
    }
    if stage.name not in session.surveyed:  # a stage that goes on after a pause finds what this run has made
        session.surveyed.add(stage.name)
        session.ledger.add(stage.name, reused=found.present)
    if not found.missing:
        named = reused_task.with_options(name=stage.name, task_run_name=stage.name)
        everything = _distinct(run for shard in shards for run in before[shard])
        parameters = {"stage": stage.name, "heads": found.present}
        return dict.fromkeys(shards, session.engine.submit(named, parameters, gpu=False, after=everything))
    progress().stage(stage.name, len(found.missing))
    run, submitted = plain_run(session), {}
    for shard, indices in groupby(found.missing, key=lambda index: index // size):
        heads = plain_heads([session.heads[index] for index in indices])
        last = min((shard + 1) * size, len(session.heads)) - 1
        named_shard = shard_task.with_options(name=stage.name, task_run_name=f"{stage.name} {shard * size}-{last}")
        submitted[shard] = session.engine.submit(
            named_shard,
            {"run": run, "stage": stage.name, "heads": heads},
            gpu=_on_gpu(session, stage.name),
            after=before[shard],
        )
    return submitted


def _distinct(runs: Iterable[PrefectFuture[ShardCount]]) -> list[PrefectFuture[ShardCount]]:
    return list({run.task_run_id: run for run in runs}.values())


def _show_pictures(session: Session, stage: str, heads: Sequence[Head]) -> None:
    """Show a contact sheet of what a stage has made of these heads, as an artifact in the UI.

    Of the stage screen, the heads that it dropped, with the reasons.
    """
    from spinmeround.tasks.overview.stage_sheet import stage_sheet

    captions = {head.id: head.id for head in heads}
    if stage == "screen":
        dropped = {head.id: session.drop_reasons(head) for head in heads}
        captions = {id: f"{id}\n{', '.join(reasons)}" for id, reasons in dropped.items() if reasons}
    shown = [head for head in heads if head.id in captions]
    sheet = stage_sheet(session.store, stage, shown, session.keys, session.profile.views.cameras(), captions)
    if sheet is not None:
        listed = [head for head in shown if session.has(stage, head)]
        places = [(head.id, f"`{stage}/{session.keys[head.id][stage]}`") for head in listed[:_LISTED]]
        table = markdown_table(("head", f"artifact in {session.store.root}"), places)
        markdown = f"{picture_markdown(sheet, f'Heads in the stage {stage}')}\n\n{table}"
        create_markdown_artifact(markdown, key=f"pictures-{stage}", description=f"Heads in the stage {stage}")


StageName = Annotated[str, Field(description="Stage to run", json_schema_extra={"enum": list(STAGES_BY_NAME)})]
"""A form shows a list of choices; the flow itself rejects other names."""


@flow(name="stage", flow_run_name="stage {stage} of {profile.name}", persist_result=False)
def stage_flow(
    profile: ProfileParameter,
    stage: StageName,
    place: Place = Place(),  # noqa: B008 (frozen)
    heads: str = "",
) -> None:
    """Run one stage for some or all heads; the artifacts of the stages that it needs must exist.

    Args:
        heads: Heads to run it for, all if empty. Else one or more of these, separated by commas: ids, seeds, ranges of
            seeds such as 10-20, split=test, dropped, dropped=REASON, quarantined. Those that are quarantined in this
            stage are tried again.
    """
    if stage not in STAGES_BY_NAME:
        raise ConfigError(f"stage {stage!r}: expected one of {', '.join(STAGES_BY_NAME)}")
    with join_session(profile, place, part=True) as session:
        chosen = select_heads(session, heads)
        _require_inputs(session, STAGES_BY_NAME[stage], chosen)
        if heads:
            session.quarantine.clear({head.id for head in chosen}, stage)
        run_stages(session, [STAGES_BY_NAME[stage]], heads=chosen)


def _require_inputs(session: Session, stage: Stage[Any], heads: Sequence[Head]) -> None:
    for name in stage.needs:
        if not any(session.has(name, head) for head in heads):
            raise ConfigError(
                f"stage {stage.name}: expected the artifacts of {name} with these parameters, found none in "
                f"{session.store.root}; run the stage {name} first"
            )


def sized(flow: Flow[..., Any], profile: Profile) -> Flow[..., Any]:
    """The flow with one task-run thread per worker of the profile."""
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=worker_count(profile))
    return flow.with_options(task_runner=cast(TaskRunner[PrefectFuture[Any]], runner))
