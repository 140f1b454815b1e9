"""The dataset flow: plan, the stages of the heads, publish."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from spinmeround.flows.profile import Profile, surface_warnings
from spinmeround.flows.review.pause import wait_for_review
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.run.shards import STAGES, artifact_status
from spinmeround.flows.stages import TASK_OPTIONS, run_stages, state_name, submit
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.dataset.publish import Counts, Published, dataset_attributes, publish
from spinmeround.tasks.heads.registry import DATASET_STAGES, SCREEN_STAGES
from spinmeround.tasks.stage import GATE


@flow(name="dataset", flow_run_name="dataset {profile.name}", persist_result=False)
def dataset_flow(profile: Profile, place: Place = Place(), retry_quarantined: bool = False) -> str:  # noqa: B008 (frozen)
    """Build the dataset of a profile and publish it; returns its digest.

    With `review.pause` it waits after screening until a person has reviewed the heads.
    Heads that failed for good in an earlier build are left out unless `retry_quarantined`.
    """
    with join_session(profile, place) as session:
        if retry_quarantined:
            session.quarantine.clear()
        planned = plan_task.submit()
        planned.result()
        runs: list[PrefectFuture[Any]] = [planned]
        stages = DATASET_STAGES
        if profile.review.pause:
            runs = [*run_stages(session, SCREEN_STAGES, wait_for=runs)]
            wait_for_review(session)
            stages = DATASET_STAGES[len(SCREEN_STAGES) :]
        runs = [*run_stages(session, stages, wait_for=runs)]
        return str(submit(publish_task, after=runs).result().digest)


@task(name="plan", task_run_name="plan", **TASK_OPTIONS)
def plan_task() -> State[int]:
    """Which heads are asked for, and the keys of everything that will be made of them."""
    session = current_session()
    for warning in surface_warnings(session.profile):
        get_run_logger().warning(warning)
        progress().say(warning)
    first, last = session.heads[0], session.heads[-1]
    return Completed(message=f"{len(session.keys)} heads, {first.id} to {last.id}", data=len(session.keys))


@task(name="publish", task_run_name="publish", **TASK_OPTIONS)
def publish_task() -> State[Published]:
    """Join the written heads into a frozen dataset."""
    session = current_session()
    session.quarantine.check()
    heads, counts = session.census()
    keys = {head.id: session.keys[head.id]["write"] for head in heads}
    with session.ledger.timed("publish"):
        found = publish(session.store, heads, keys, attributes(session, counts), session.folder.datasets)
    session.ledger.add("publish", made=found.outcome == "made", reused=found.outcome == "reused")
    session.results["dataset"] = told(found)
    progress().say(f"dataset: {counts.written} heads in {found.url or found.path}")
    _show_census(counts, found)
    return Completed(name=state_name(found.outcome), message=f"digest {found.digest}", data=found)


def find_dataset(session: Session) -> Published:
    """The published dataset of this profile; raises ConfigError where it has not been built to its end.

    Raises SpinMeRoundError where too many of its heads are quarantined.
    """
    session.quarantine.check()
    ends = [STAGES[GATE], STAGES["write"]]
    states = ((head, artifact_status(session, end, head)) for head in session.heads for end in ends)
    unfinished = next((head for head, state in states if state == "waiting"), None)
    heads, counts = session.census()
    found = None
    if unfinished is None and heads:
        keys = {head.id: session.keys[head.id]["write"] for head in heads}
        found = publish(session.store, heads, keys, attributes(session, counts), session.folder.datasets)
    if found is None:
        missing = f"{unfinished.id} is not reviewed or written yet" if unfinished else "none of its heads was written"
        raise ConfigError(
            f"run folder {session.folder.root}: expected the dataset of these parameters, but {missing}; "
            "run 'spinmeround build' with the same options first"
        )
    session.results["dataset"] = told(found)
    return found


def told(found: Published) -> dict[str, str]:
    """What the summary says of a dataset."""
    return {"path": str(found.path), "digest": found.digest, **({"url": found.url} if found.url else {})}


def attributes(session: Session, counts: Counts) -> dict[str, Any]:
    """What the dataset says of itself; only what decides its content, so that the digest is a function of that."""
    sections: dict[str, Any] = {"plan": session.profile.plan}
    fingerprints = {}
    for bound in (session.stages[stage.name] for stage in DATASET_STAGES):
        sections |= bound.sections
        if bound.weights:
            fingerprints["generator" if bound.stage.name == "sample" else bound.stage.name] = bound.weights
    return dataset_attributes(sections, fingerprints, counts, session.profile.publish)


def _show_census(counts: Counts, found: Published) -> None:
    """What became of all heads, as an artifact in the UI."""
    rows = {
        "asked": counts.asked,
        **{f"screened out: {reason}": number for reason, number in counts.screened_out.items()},
        "kept by review against the screen": counts.kept_by_review,
        "quarantined": counts.quarantined,
        "written": counts.written,
    }
    table = [{"heads": name, "number": number} for name, number in rows.items()]
    create_table_artifact(table, key="dataset", description=f"Dataset {found.digest[:12]}")
