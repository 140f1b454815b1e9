"""The evaluation flow: the trained model and its baselines against the truth, on held-out heads."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import dataset_of
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.models import registered_model
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.stages import TASK_OPTIONS, state_name, submit
from spinmeround.flows.training import load_trainings, make_in_worker, planned_trainings, record_trainings
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.evaluation.params import EvaluateParams, EvaluationResult, evaluation_key, load_evaluation
from spinmeround.tasks.evaluation.table import metric_table, missing_lines
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.training.chain.plan import PlannedTraining


@flow(name="evaluation", flow_run_name="evaluation {profile.name}", persist_result=False)
def evaluation_flow(
    profile: Profile,
    place: Place = Place(),  # noqa: B008 (frozen)
    dataset: str | None = None,
    on: str | None = None,
    model: str | None = None,
) -> str:
    """Evaluate the trained model of a profile; returns the key of the evaluation's artifact.

    `dataset` is the folder that the training was given, if it was not the profile's own dataset. `on` is the folder of
    another dataset, on whose heads the model is evaluated. `model` is an alias or NAME@VERSION in the store's registry,
    evaluated in place of the trained model.
    """
    with join_session(profile, place) as session:
        data = dataset_of(session, dataset)
        if model is None:
            training = require_training(session, data)
            evaluated_model: tuple[str, str, str | None] = (training.name, training.key, data.digest)
        else:
            version = registered_model(model, session.store, profile.promote)
            evaluated_model = (version.stage, version.key, version.dataset)
        stage, key, seen = evaluated_model
        data = data if on is None else dataset_of(session, on)
        if profile.evaluate.split == "all" and data.digest == seen:
            raise ConfigError(
                "evaluate.split: expected held-out on the dataset that the model was trained on, got all; --on names "
                "another one"
            )
        return str(submit(evaluate_task, data, stage, key).result())


@task(name="evaluate", task_run_name="evaluate", **TASK_OPTIONS)
def evaluate_task(dataset: Published, stage: str, training: str) -> State[str]:
    """Generate and measure, in a dedicated process that uses all cores; `training` is a key of the stage."""
    session = current_session()
    outcome, key, result = evaluated(session, dataset, {stage: training}, session.profile.evaluate)
    session.results["evaluation"] = {"key": key, **asdict(result)}
    _show_metrics(result)
    return Completed(name=state_name(outcome), message=f"{len(result.heads)} held-out heads", data=key)


def evaluated(
    session: Session, dataset: Published, training: Mapping[str, str], params: EvaluateParams
) -> tuple[Outcome, str, EvaluationResult]:
    """The evaluation of a training, the key by its stage, made in a dedicated process unless the store has it."""
    embed = session.profile.embed
    key = evaluation_key(dataset.digest, training, params, embed)
    arguments = (session.store.root, dataset.path, training, params, embed)
    heads = len(choose_views(HeadDataset.open(dataset.path), params, embed.frontal))
    with session.ledger.timed("evaluate"):
        outcome = make_in_worker(session, "evaluate", key, heads, _evaluate, *arguments)
        result = load_evaluation(session.store.verify("evaluate", key).path)
    return outcome, key, result


def find_training(session: Session, dataset: Published) -> PlannedTraining | None:
    """The last training of this profile on the dataset and its latents; None if the store does not have it."""
    if not HeadDataset.open(dataset.path).has_latents:
        return None
    planned = planned_trainings(session, dataset.path)
    if not session.store.has(planned[-1].name, planned[-1].key):
        return None
    made = [each for each in planned if session.store.has(each.name, each.key)]
    record_trainings(session, made, load_trainings(session, made))
    return planned[-1]


def require_training(session: Session, dataset: Published) -> PlannedTraining:
    """The last training of this profile on the dataset, a model of several views.

    Raises ConfigError if the store does not have it, or the profile trains single pictures alone.
    """
    training = find_training(session, dataset)
    if training is None:
        raise ConfigError(
            f"run folder {session.folder.root}: expected a training with these parameters, found none; "
            "run 'spinmeround train' with the same options first"
        )
    if training.name == "adapt":
        raise ConfigError(
            "train: expected steps in single_view or multi_view, whose model generates views, got them in adapt alone"
        )
    return training


def find_evaluation(session: Session, dataset: Published, training: PlannedTraining) -> str | None:
    """Key of the evaluation of this training; None if the store has none."""
    trained: dict[str, str] = {training.name: training.key}
    key = evaluation_key(dataset.digest, trained, session.profile.evaluate, session.profile.embed)
    return key if session.store.has("evaluate", key) else None


def _show_metrics(result: EvaluationResult) -> None:
    header, rows = metric_table(asdict(result))
    table = [dict(zip(header, row, strict=True)) for row in rows]
    description = f"{len(result.heads)} held-out heads: means with 95% intervals; p of the paired test with the model"
    create_table_artifact(
        table, key="evaluation", description="\n\n".join([description, *missing_lines(asdict(result))])
    )


def _evaluate(
    store: Path | str,
    dataset: Path,
    training: Mapping[str, str],
    params: EvaluateParams,
    embed: EmbedParams,
    report: Callable[[tuple[int, str]], None],
) -> Outcome:
    from spinmeround.tasks.evaluation.run import make_evaluation

    def on_progress(done: int, total: int) -> None:
        report((done, ""))

    return make_evaluation(ArtifactStore(store), dataset, training, params, embed, on_progress)[0]
