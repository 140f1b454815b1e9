"""The training flow: encode the views of the dataset, then train the phases of the model on their latents.

Each phase is a task run and an artifact, and begins with the result of the one before.
Only the worker that trains imports the networks, so an existing training is found without them.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from spinmeround.flows.dataset import dataset_of
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.live_training import LiveTraining
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.quarantine import RETRY_HINT
from spinmeround.flows.run.session import Session, current_session, join_session, worker_count
from spinmeround.flows.run.workers import Worker, WorkerDied
from spinmeround.flows.stages import TASK_OPTIONS, run_stages, state_name, submit
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import Interrupted, SpinMeRoundError
from spinmeround.tasks.ablation.params import variant_training
from spinmeround.tasks.dataset.publish import Published, share_latents
from spinmeround.tasks.heads.encode import EncodeParams, publish_latents, published_latents
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.stage import Head, Outcome
from spinmeround.tasks.training.chain.plan import PlannedTraining, plan_trainings
from spinmeround.tasks.training.faces.plan import STAGE as FACES
from spinmeround.tasks.training.faces.plan import FaceShard, plan_faces
from spinmeround.tasks.training.key import export_key
from spinmeround.tasks.training.params import METRICS, TrainingResult, TrainParams, load_training
from spinmeround.tasks.training.params.launch import JOB

GRACE_S = 600.0
"""Time that a training gets to complete its step and write a checkpoint, when the run is asked to end."""


@flow(name="training", flow_run_name="training {profile.name}", persist_result=False)
def training_flow(profile: ProfileParameter, place: Place = Place(), dataset: str | None = None) -> str:  # noqa: B008 (frozen)
    """Train the phases of a profile on its published dataset; returns the key of the last one's artifact.

    `dataset` is the folder of another dataset to train on, for instance of an imported one.
    Without steps in any phase it exports the networks of `train.initial` as a pipeline, which needs no dataset.
    """
    with join_session(profile, place) as session:
        check_networks(session)
        if not profile.train.trained:
            return str(submit(export_task).result())
        data, before = submit_data(session, dataset)
        runs = [*before, *submit_phases(session, data, before)]
        return str([run.result() for run in runs][-1])  # the error of the first that failed; later ones have none


Runs = list[PrefectFuture[Any]]


def submit_data(session: Session, dataset: str | None) -> tuple[Published | None, Runs]:
    """The dataset of a training, if it reads one, and the task runs that add the latents and make the faces."""
    profile, before = session.profile, Runs()
    if plan_faces(profile.train, profile.embed, profile.encode):
        before = [submit(faces_task)]
        if profile.train.trained == ["adapt"]:
            return None, before
    data = dataset_of(session, dataset)
    if dataset is not None:
        return data, [*before, submit(encode_task, data.path)]
    runs = run_stages(session, [STAGES_BY_NAME["encode"]])
    return data, [*before, submit(latents_task, data.path, after=runs)]


def submit_phases(session: Session, data: Published | None, before: Runs, variant: str | None = None) -> Runs:
    """The task runs of the phases in order; those of a `variant` of an ablation are named after it."""
    runs = Runs()
    for number, phase in enumerate(session.profile.train.trained):
        name = phase if variant is None else f"{variant} {phase}"
        named = train_task.with_options(name=name, task_run_name=name)
        runs.append(submit(named, data, number, variant, after=runs[-1:] or before))
    return runs


def check_networks(session: Session) -> None:
    """Check, once a run and in a worker, the networks from outside that the training loads.

    Raises ConfigError for one that it would refuse, and without steps for none at all, before anything is computed.
    """
    train, encode = session.profile.train, session.profile.encode
    if not train.trained:
        export_key(train, encode)
    external = encode.autoencoder != "embedded" or train.initial.outside
    if external and not session.networks_checked:
        with session.pool.dedicated(threads=1) as worker:
            worker.call(_check_external, train, encode)
    session.networks_checked = True


def _check_external(train: TrainParams, encode: EncodeParams) -> None:
    from spinmeround.tasks.training.beginning.initial import check_external

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


@task(name="encode", task_run_name="encode", **TASK_OPTIONS)
def encode_task(dataset: Path) -> State[str]:
    """Add latents to a dataset that has none of the profile's autoencoder, in a dedicated process."""
    session = current_session()
    with session.ledger.timed("encode"):
        digest = published_latents(dataset, session.profile.encode)
        if digest is None:
            with session.pool.dedicated(threads=worker_count(session.profile)) as worker:
                digest = str(worker.call(_encode_dataset, dataset, session.profile.encode))
    return Completed(message=f"latents of {dataset.name}, digest {digest}", data=digest)


def _encode_dataset(dataset: Path, params: EncodeParams) -> str:
    from spinmeround.tasks.dataset.encode import encode_dataset

    return encode_dataset(dataset, params)


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


@task(name="faces", task_run_name="faces", **TASK_OPTIONS)
def faces_task() -> State[int]:
    """Embed and encode the pictures of faces that `adapt` trains on, shard by shard in a dedicated process."""
    session, profile = current_session(), current_session().profile
    shards = plan_faces(profile.train, profile.embed, profile.encode)
    missing = [shard for shard in shards if not session.store.has(FACES, shard.key)]
    with session.ledger.timed(FACES):
        if missing:
            total = sum(len(shard.faces) for shard in missing)
            progress().stage(FACES, total)
            with session.pool.dedicated(threads=worker_count(profile)) as worker:
                worker.call(_make_faces, session.store.root, missing, report=_show_progress(FACES, total, shown=0))
    session.ledger.add(FACES, made=len(missing), reused=len(shards) - len(missing))
    pictures = sum(len(shard.faces) for shard in shards)
    name = state_name("made" if missing else "reused")
    return Completed(name=name, message=f"{pictures} pictures in {len(shards)} shards", data=pictures)


def planned_trainings(session: Session, dataset: Path | None, variant: str | None = None) -> list[PlannedTraining]:
    """The trainings of the session's profile on a dataset, which may be None if they read none, or of a variant."""
    profile = session.profile
    train = profile.train if variant is None else variant_training(profile.train, variant)
    faces = [shard.key for shard in plan_faces(profile.train, profile.embed, profile.encode)]
    data = None if dataset is None else HeadDataset.open(dataset)
    return plan_trainings(data, train, profile.encode, faces)


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
def train_task(dataset: Published | None, number: int, variant: str | None = None) -> State[str]:
    """Train one phase in a dedicated process that uses all cores, or in those of a launcher; resumes from the newest
    checkpoint. `variant` is one of an ablation.

    SIGTERM to the process makes it leave a checkpoint, and this task resume from it.
    """
    session = current_session()
    session.raise_if_stopped()
    planned = planned_trainings(session, dataset.path if dataset else None, variant)[: number + 1]
    found, encode = planned[-1], session.profile.encode
    data = found.faces or (dataset and dataset.path)
    arguments = (session.store.root, data, found.params, encode, session.folder.training, found.begins)
    with session.ledger.timed(found.name):
        live = LiveTraining(session.folder.training / found.key[:12] / METRICS, found.params.steps)
        with _shown_interruption(found.name):
            outcome = make_in_worker(
                session,
                found.name,
                found.key,
                found.params.steps,
                _train,
                *arguments,
                before=_announce_launch(found),
                on_done=partial(session.shown.show, live.show, instead_of=f"training {found.name}"),
            )
        results = load_trainings(session, planned)
    if variant is None:
        record_trainings(session, planned, results)
    result = results[-1]
    return Completed(name=state_name(outcome), message=result.described, data=found.key)


@task(name="export", task_run_name="export", **TASK_OPTIONS)
def export_task() -> State[str]:
    """Export the networks of `train.initial` as a pipeline, in a dedicated process."""
    session, profile = current_session(), current_session().profile
    (found,) = planned_trainings(session, None)
    arguments = (session.store.root, profile.train, profile.encode)
    with session.ledger.timed(found.name):
        outcome = make_in_worker(session, found.name, found.key, 1, _export, *arguments)
        record_trainings(session, [found], load_trainings(session, [found]))
    return Completed(name=state_name(outcome), message="a pipeline of the initial networks", data=found.key)


def load_trainings(session: Session, planned: Sequence[PlannedTraining]) -> list[TrainingResult]:
    """The results of finished trainings in the store."""
    return [load_training(session.store.verify(each.name, each.key).path) for each in planned]


def record_trainings(session: Session, planned: Sequence[PlannedTraining], results: Sequence[TrainingResult]) -> None:
    """Add the results of finished trainings to those of the run."""
    phases = [
        {
            "stage": each.name,
            "key": each.key,
            "steps": result.steps,
            "loss_first": result.loss_first,
            "loss_last": result.loss_last,
            "pipeline": result.pipeline and str(result.pipeline),
        }
        for each, result in zip(planned, results, strict=True)
    ]
    session.results["training"] = {**phases[-1], "phases": phases}


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
            outcome = worker.call(make, *arguments, report=_show_progress(stage, total, on_done=on_done))
    session.ledger.add(stage, made=outcome == "made", reused=outcome == "reused")
    return outcome


@contextmanager
def _shown_interruption(name: str) -> Iterator[None]:
    """Shows the message of a training that was asked to end in the block; raises Interrupted too if its process died of
    SIGTERM, as one does that loads its networks or writes its result."""
    try:
        try:
            yield
        except WorkerDied as error:
            if error.exitcode != -signal.SIGTERM:
                raise
            raise Interrupted("was asked to end; run it again to continue from the newest checkpoint") from error
    except Interrupted as error:
        progress().say(f"{name}: {error}")
        raise


def _announce_launch(planned: PlannedTraining) -> Callable[[Worker], None]:
    """Shows the commands that a worker will run to start the processes of a training."""

    def announce(worker: Worker) -> None:
        if planned.params.launch.launcher == "none":
            return
        job = current_session().folder.training / planned.key[:12] / JOB
        here, *elsewhere = worker.call(_launch_commands, planned.params, job)
        name = planned.name
        for line in (f"{name}: {here}", *(f"{name}: on machine {n}: {line}" for n, line in enumerate(elsewhere, 2))):
            progress().say(line)
            get_run_logger().info(line)

    return announce


def _launch_commands(train: TrainParams, job: Path) -> list[str]:
    from spinmeround.tasks.training.launching.launch import shown_commands

    return shown_commands(train.launch, job)


def _show_progress(
    stage: str, total: int, *, shown: int | None = None, on_done: Callable[[int], None] = lambda done: None
) -> Callable[[tuple[int, str]], None]:
    """Shows the (done, note) reports of a stage, of which `shown` were done before, by default all but the first one
    reported: that of a resumed training is not 1."""

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
    data: Path | tuple[str, ...],
    params: TrainParams,
    encode: EncodeParams,
    checkpoints: Path,
    begins: Mapping[str, str],
    report: Callable[[tuple[int, str]], None],
) -> Outcome:
    from spinmeround.tasks.training.chain.artifact import make_training

    def on_step(done: int, steps: int, loss: float | None) -> None:
        report((done, "step skipped" if loss is None else f"loss {loss:.3f}"))

    return make_training(ArtifactStore(store), data, params, encode, checkpoints, on_step, begins=begins)[0]


def _make_faces(store: Path | str, shards: Sequence[FaceShard], report: Callable[[tuple[int, str]], None]) -> None:
    from spinmeround.tasks.training.faces.prepare import make_faces

    done = 0
    for shard in shards:
        make_faces(ArtifactStore(store), shard)
        done += len(shard.faces)
        report((done, shard.container.name))


def _export(
    store: Path | str, params: TrainParams, encode: EncodeParams, report: Callable[[tuple[int, str]], None]
) -> Outcome:
    from spinmeround.tasks.training.chain.export import export_pipeline

    outcome = export_pipeline(ArtifactStore(store), params, encode)[0]
    report((1, ""))
    return outcome
