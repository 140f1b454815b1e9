"""The dataset flow: plan, the stages of the heads, publish."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed
from pydantic import BaseModel

from spinmeround.flows.profile import ProfileParameter, surface_warnings
from spinmeround.flows.review.pause import wait_for_review
from spinmeround.flows.run.events import announce_dataset
from spinmeround.flows.run.failure_pause import pausing_on_failures
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.plan_table import plan_table
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.run.shards import artifact_status
from spinmeround.flows.stages import TASK_OPTIONS, run_stages, state_name, submit
from spinmeround.storage.dataset import HeadDataset, list_versions
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.dataset.publish import Counts, Published, dataset_attributes, publish
from spinmeround.tasks.heads.registry import DATASET_STAGES, PUBLISHED_STAGES, SCREEN_STAGES, STAGES_BY_NAME
from spinmeround.tasks.stage import GATE, Head, Stage


@flow(name="dataset", flow_run_name="dataset {profile.name}, {profile.plan.heads} heads", persist_result=False)
def dataset_flow(profile: ProfileParameter, place: Place = Place(), retry_quarantined: bool = False) -> str:  # noqa: B008 (frozen)
    """Build the dataset of a profile and publish it; returns its digest.

    With `review.pause` it waits after screening until a person has reviewed the heads.
    Heads that an earlier build quarantined are left out unless `retry_quarantined`.
    """
    with join_session(profile, place) as session:
        if retry_quarantined:
            session.quarantine.clear()
        planned = plan_task.submit()
        planned.result()
        runs: list[PrefectFuture[Any]] = [planned]
        stages = DATASET_STAGES
        if profile.review.pause:
            runs = _made(session, SCREEN_STAGES, runs)
            wait_for_review(session)
            stages = DATASET_STAGES[len(SCREEN_STAGES) :]
        runs = _made(session, stages, runs)
        return str(submit(publish_task, after=runs).result().digest)


def _made(
    session: Session, stages: Sequence[Stage[Any]], before: Sequence[PrefectFuture[Any]]
) -> list[PrefectFuture[Any]]:
    """The task runs of these stages; pauses where the profile says so if too many heads fail."""
    return list(pausing_on_failures(session, lambda: run_stages(session, stages, wait_for=before)))


@task(name="plan", task_run_name="plan", **TASK_OPTIONS)
def plan_task() -> State[int]:
    """Plan the heads and compute the keys of all their artifacts."""
    session = current_session()
    for warning in surface_warnings(session.profile):
        get_run_logger().warning(warning)
        progress().say(warning)
    if session.shown.enabled:
        _show_plan(session)
    first, last = session.heads[0], session.heads[-1]
    return Completed(message=f"{len(session.keys)} heads, {first.id} to {last.id}", data=len(session.keys))


def _show_plan(session: Session) -> None:
    """Show what will be made, with estimates of time and disk, as an artifact in the UI."""
    with suppress(SpinMeRoundError):  # the stages find what can't be read, and say so
        session.shown.show(
            create_markdown_artifact,
            plan_table(session).markdown(),
            key="plan",
            description="What the build will make, with estimates of time and disk",
        )


@task(name="publish", task_run_name="publish", **TASK_OPTIONS)
def publish_task() -> State[Published]:
    """Join the complete heads into a frozen dataset; a new one is announced as an event."""
    session = current_session()
    session.quarantine.check()
    heads, counts = session.census()
    known = {version.digest for version in list_versions(session.folder.datasets)}
    with session.ledger.timed("publish"):
        found = _publish(session, heads, counts)
    if found.digest not in known:
        announce_dataset(session.profile.name, session.folder.root, found)
    session.ledger.add("publish", made=found.outcome == "made", reused=found.outcome == "reused")
    session.results["dataset"] = _summary(found)
    progress().say(f"dataset: {counts.written} heads in {found.url or found.path}")
    return Completed(name=state_name(found.outcome), message=f"digest {found.digest}", data=found)


def find_dataset(session: Session) -> Published:
    """The published dataset of this profile.

    Raises ConfigError if it has not been built completely, SpinMeRoundError if too many heads are quarantined.
    """
    session.quarantine.check()
    ends = [STAGES_BY_NAME[name] for name in (GATE, *PUBLISHED_STAGES)]
    states = ((head, artifact_status(session, end, head)) for head in session.heads for end in ends)
    unfinished = next((head for head, state in states if state == "missing"), None)
    heads, counts = session.census()
    found = None
    if unfinished is None and heads:
        found = _publish(session, heads, counts)
    if found is None:
        missing = f"{unfinished.id} is not complete yet" if unfinished else "none of its heads is complete"
        raise ConfigError(
            f"run folder {session.folder.root}: expected the dataset of these parameters, but {missing}; "
            "run 'spinmeround build' with the same options first"
        )
    session.results["dataset"] = _summary(found)
    return found


def dataset_of(session: Session, given: str | None) -> Published:
    """The dataset in a given folder, which no run of this profile need have built, or that of the profile.

    Raises DatasetError if the folder holds none, and as `find_dataset`.
    """
    if given is None:
        return find_dataset(session)
    data = HeadDataset.open(Path(given).expanduser().absolute())
    found = Published(path=data.path, digest=data.digest, key="", outcome="reused")
    session.results["dataset"] = _summary(found)
    return found


def _publish(session: Session, heads: Sequence[Head], counts: Counts) -> Published:
    cameras, attributes = session.profile.views.cameras(), _attributes(session, counts)
    return publish(session.store, heads, session.keys, cameras, attributes, session.folder.datasets)


def _summary(found: Published) -> dict[str, str]:
    """The dataset's entry of the summary."""
    return {"path": str(found.path), "digest": found.digest, **({"url": found.url} if found.url else {})}


def _attributes(session: Session, counts: Counts) -> dict[str, Any]:
    """The attributes of the dataset. They depend only on what decides its content, and so does the digest."""
    profile = session.profile
    sections: dict[str, BaseModel] = {"plan": profile.plan}
    fingerprints = {}
    for bound in (session.stages[stage.name] for stage in DATASET_STAGES):
        sections |= {name: getattr(bound.sections, name) for name in bound.stage.reads}
        if bound.weights:
            fingerprints["generator" if bound.stage.name == "sample" else bound.stage.name] = bound.weights
    return dataset_attributes(
        profile.generator,
        profile.views,
        profile.publish,
        sections=sections,
        fingerprints=fingerprints,
        counts=counts,
    )
