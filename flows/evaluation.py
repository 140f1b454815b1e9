"""The evaluation flow: the trained model on held-out heads, against the truth and against baselines."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import find_dataset
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session, worker_count
from spinmeround.flows.stages import TASK_OPTIONS, state_name, submit
from spinmeround.flows.training import note_training, stepper
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.evaluation.params import EvaluateParams, Evaluation, evaluation_key, load_evaluation
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.stage import Outcome
from spinmeround.tasks.training.params import training_key


@flow(name="evaluation", flow_run_name="evaluation {profile.name}", persist_result=False)
def evaluation_flow(profile: Profile, place: Place = Place()) -> str:  # noqa: B008 (frozen)
    """Evaluate the trained model of a profile; returns the key of the evaluation's artifact."""
    with join_session(profile, place) as session:
        dataset = find_dataset(session)
        training = require_training(session, dataset)
        return str(submit(evaluate_task, dataset, training).result())


@task(name="evaluate", task_run_name="evaluate", **TASK_OPTIONS)
def evaluate_task(dataset: Published, training: str) -> State[str]:
    """Generate and measure, in a process of its own that has all cores."""
    session, profile = current_session(), current_session().profile
    key = evaluation_key(dataset.digest, training, profile.evaluate, profile.embed)
    outcome: Outcome = "reused"
    with session.ledger.timed("evaluate"):
        if not session.store.has("evaluate", key):
            progress().stage("evaluate", profile.evaluate.heads)
            arguments = (session.store.root, dataset.path, training, profile.evaluate, profile.embed)
            with session.pool.dedicated(threads=worker_count(profile)) as worker:
                outcome = worker.call(_evaluate, *arguments, report=stepper("evaluate"))
        result = load_evaluation(session.store.open("evaluate", key).path)
    session.ledger.add("evaluate", made=outcome == "made", reused=outcome == "reused")
    session.results["evaluation"] = {"key": key, **asdict(result)}
    _show_metrics(result)
    return Completed(name=state_name(outcome), message=f"{len(result.heads)} held-out heads", data=key)


def find_training(session: Session, dataset: Published) -> str | None:
    """Key of the training of this profile on the dataset; None where there is none."""
    key = training_key(dataset.digest, session.profile.train, session.profile.encode)
    if not session.store.has("train", key):
        return None
    note_training(session, key)
    return key


def require_training(session: Session, dataset: Published) -> str:
    """Key of the training of this profile on the dataset; raises ConfigError where there is none."""
    training = find_training(session, dataset)
    if training is None:
        raise ConfigError(
            f"run folder {session.folder.root}: expected a training with these parameters, found none; "
            "run 'spinmeround train' with the same options first"
        )
    return training


def find_evaluation(session: Session, dataset: Published, training: str) -> str | None:
    """Key of the evaluation of this training; None where there is none."""
    key = evaluation_key(dataset.digest, training, session.profile.evaluate, session.profile.embed)
    return key if session.store.has("evaluate", key) else None


def _show_metrics(result: Evaluation) -> None:
    rows = {"model": result.model, **result.baselines}
    table = [{"": name, **{metric: _rounded(value) for metric, value in row.items()}} for name, row in rows.items()]
    create_table_artifact(table, key="evaluation", description="Held-out heads: the model and its baselines")


def _rounded(value: float | None) -> float | str:
    return "missing" if value is None else round(value, 4)


def _evaluate(
    store: Path | str,
    dataset: Path,
    training: str,
    params: EvaluateParams,
    embed: EmbedParams,
    report: Callable[[tuple[int, str]], None],
) -> Outcome:
    from spinmeround.tasks.evaluation.run import make_evaluation

    def step(done: int, heads: int) -> None:
        report((done, ""))

    return make_evaluation(ArtifactStore(store), dataset, training, params, embed, step)[0]
