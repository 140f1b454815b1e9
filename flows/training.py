"""The training flow: encode the views of the dataset, then train the multiview model on their latents.

Only the worker that trains imports the networks, so an existing training is found without them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import find_dataset
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.live_training import LiveTraining
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.quarantine import RETRY_HINT
from spinmeround.flows.run.session import Session, current_session, join_session, worker_count
from spinmeround.flows.run.workers import Worker
from spinmeround.flows.stages import TASK_OPTIONS, run_stages, state_name, submit
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import Interrupted, SpinMeRoundError
from spinmeround.tasks.dataset.publish import Published, share_latents
from spinmeround.tasks.heads.encode import EncodeParams, publish_latents, published_latents
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.stage import Head, Outcome
from spinmeround.tasks.training.parallel.params import JOB
from spinmeround.tasks.training.params import (
    METRICS,
    TrainingResult,
    TrainParams,
    load_training,
    training_inputs,
    training_key,
)

GRACE_S = 600.0
"""Time that a training gets to complete its step and write a checkpoint, when the run is asked to end."""


@flow(name="training", flow_run_name="training {profile.name}", persist_result=False)
def training_flow(profile: Profile, place: Place = Place()) -> str:  # noqa: B008 (frozen)
    """Train on the published dataset of a profile; returns the key of the training's artifact."""
    with join_session(profile, place) as session:
        check_networks(session)
        dataset = find_dataset(session)
        runs = run_stages(session, [STAGES_BY_NAME["encode"]])
        latents = submit(latents_task, dataset.path, after=runs)
        return str(submit(train_task, dataset, after=[latents]).result())


def check_networks(session: Session) -> None:
    """Check, once a run and in a worker, the networks from outside that the training loads.

    Raises ConfigError for one that it would refuse, before anything is computed.
    """
    train, encode = session.profile.train, session.profile.encode
    external = encode.autoencoder != "embedded" or train.initial.folders
    if external and not session.networks_checked:
        with session.pool.dedicated(threads=1) as worker:
            worker.call(_check_external, train, encode)
    session.networks_checked = True


def _check_external(train: TrainParams, encode: EncodeParams) -> None:
    from spinmeround.tasks.training.initial import check_external

    check_external(train, encode)


@task(name="latents", task_run_name="latents", **TASK_OPTIONS)
def latents_task(dataset: Path) -> State[str]:
    """Add the latents of the heads to the dataset."""
    session = current_session()
    heads, _ = session.census()
    _require_encoded(session, heads)
    with session.ledger.timed("encode"):
        keys = {head.id: session.keys[head.id]["encode"] for head in heads}
        digest = published_latents(dataset, session.profile.encode)
        if digest is None:
            folders = {id: session.store.verify("encode", key).path for id, key in keys.items()}
            digest = publish_latents(dataset, folders, session.profile.encode)
        share_latents(session.store, dataset, keys)
    return Completed(message=f"latents of {len(heads)} heads, digest {digest}", data=digest)


def _require_encoded(session: Session, heads: Sequence[Head]) -> None:
    """Raises SpinMeRoundError if a head of the dataset is quarantined in the stage encode."""
    keys = {session.keys[head.id]["encode"] for head in heads}
    lost = [failure for failure in session.quarantine.failures() if failure.stage == "encode" and failure.key in keys]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise SpinMeRoundError(
            f"training needs the latents of all heads of the dataset, but {lost[0].subject} is quarantined in encode: "
            f"{lost[0].reason}{more}. {RETRY_HINT}, then train"
        )


def was_interrupted(task: Any, run: Any, state: State[Any]) -> bool:
    """Whether a training was asked to end while its run goes on: its task run is then started again, and resumes."""
    try:
        state.result()
    except Interrupted:
        return True
    except Exception:
        return False
    return False


RETRY_INTERRUPTED: dict[str, Any] = {
    **TASK_OPTIONS,
    "retries": 20,
    "retry_delay_seconds": 5,
    "retry_condition_fn": was_interrupted,
}
"""Options of a task that trains."""


@task(name="train", task_run_name="train", **RETRY_INTERRUPTED)
def train_task(dataset: Published) -> State[str]:
    """Train in a dedicated process that uses all cores, or in those of a launcher; resumes from the newest checkpoint.

    SIGTERM to the process makes it leave a checkpoint, and this task resume from it.
    """
    session, profile = current_session(), current_session().profile
    session.raise_if_stopped()
    key = training_key(training_inputs(HeadDataset.open(dataset.path)), profile.train, profile.encode)
    arguments = (session.store.root, dataset.path, profile.train, profile.encode, session.folder.training)
    with session.ledger.timed("train"):
        live = LiveTraining(session.folder.training / key[:12] / METRICS, profile.train.steps)
        outcome = make_in_worker(
            session,
            "train",
            key,
            profile.train.steps,
            _train,
            *arguments,
            before=_announce_launch(profile.train, key),
            on_done=live.show,
        )
        result = record_training(session, key)
    message = f"{result.steps} steps, loss {result.loss_first:.3f} to {result.loss_last:.3f}"
    return Completed(name=state_name(outcome), message=message, data=key)


def record_training(session: Session, key: str) -> TrainingResult:
    """The result of a training in the store, added to the results of the run."""
    result = load_training(session.store.verify("train", key).path)
    losses = {"loss_first": result.loss_first, "loss_last": result.loss_last}
    session.results["training"] = {"key": key, "steps": result.steps, **losses, "pipeline": str(result.pipeline)}
    return result


def make_in_worker(
    session: Session,
    stage: str,
    key: str,
    total: int,
    make: Callable[..., Outcome],
    *arguments: Any,
    before: Callable[[Worker], None] = lambda worker: None,
    on_done: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Call `make(*arguments, report)` in a dedicated worker with all cores, unless the store has the artifact.

    `make` passes (done, note) to `report`, where `done` of `total` steps or heads are complete. `before` is called with
    the worker first, `on_done` with each number that is complete. A worker that is still busy when the run ends gets
    time to leave a checkpoint.
    """
    outcome: Outcome = "reused"
    if not session.store.has(stage, key):
        progress().stage(stage, total)
        with session.pool.dedicated(threads=worker_count(session.profile), grace_s=GRACE_S) as worker:
            before(worker)
            outcome = worker.call(make, *arguments, report=_show_progress(stage, total, on_done))
    session.ledger.add(stage, made=outcome == "made", reused=outcome == "reused")
    return outcome


def _announce_launch(train: TrainParams, key: str) -> Callable[[Worker], None]:
    """Shows the commands that a worker will run to start the processes of a training."""

    def announce(worker: Worker) -> None:
        if train.launch.launcher == "none":
            return
        job = current_session().folder.training / key[:12] / JOB
        here, *elsewhere = worker.call(_launch_commands, train, job)
        for line in (f"train: {here}", *(f"train: on machine {n}: {line}" for n, line in enumerate(elsewhere, 2))):
            progress().say(line)
            get_run_logger().info(line)

    return announce


def _launch_commands(train: TrainParams, job: Path) -> list[str]:
    from spinmeround.tasks.training.parallel.launch import shown_commands

    return shown_commands(train.launch, job)


def _show_progress(stage: str, total: int, on_done: Callable[[int], None]) -> Callable[[tuple[int, str]], None]:
    """Shows the (done, note) reports of a stage; the first report of a resumed training is not 1."""
    shown: int | None = None

    def show(report: tuple[int, str]) -> None:
        nonlocal shown
        done, note = report
        if shown is None or done < shown:  # begins, or returned to a checkpoint
            shown = done - 1
            progress().stage(stage, total, shown)
        progress().advance(stage, by=done - shown, note=note)
        shown = done
        on_done(done)

    return show


def _train(
    store: Path | str,
    dataset: Path,
    params: TrainParams,
    encode: EncodeParams,
    checkpoints: Path,
    report: Callable[[tuple[int, str]], None],
) -> Outcome:
    from spinmeround.tasks.training.artifact import make_training

    def on_step(done: int, steps: int, loss: float | None) -> None:
        report((done, "step skipped" if loss is None else f"loss {loss:.3f}"))

    return make_training(ArtifactStore(store), dataset, params, encode, checkpoints, on_step)[0]
