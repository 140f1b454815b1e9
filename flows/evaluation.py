"""The evaluation flow: the trained model and its baselines against the truth, on held-out heads."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import dataset_of
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.models import registered_model
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session, worker_count
from spinmeround.flows.run.workers import Worker
from spinmeround.flows.stages import TASK_OPTIONS, state_name, submit
from spinmeround.flows.training import load_trainings, planned_trainings, record_trainings
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.evaluation.params import EvaluateParams, EvaluationResult, evaluation_key, load_evaluation
from spinmeround.tasks.evaluation.table import metric_table, missing_lines
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.training.chain.plan import PlannedTraining

if TYPE_CHECKING:
    from spinmeround.tasks.evaluation.heads import Evaluated


@flow(name="evaluation", flow_run_name="evaluation {profile.name}", persist_result=False)
def evaluation_flow(
    profile: ProfileParameter,
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
    """Generate and measure, with the heads divided over the workers of the run; `training` is a key of the stage."""
    session = current_session()
    outcome, key, result = evaluated(session, dataset, {stage: training}, session.profile.evaluate)
    session.results["evaluation"] = {"key": key, **asdict(result)}
    _show_metrics(result)
    return Completed(name=state_name(outcome), message=f"{len(result.heads)} held-out heads", data=key)


def evaluated(
    session: Session, dataset: Published, training: Mapping[str, str], params: EvaluateParams
) -> tuple[Outcome, str, EvaluationResult]:
    """The evaluation of a training, the key by its stage, made in dedicated processes unless the store has it.

    Heads are divided over as many processes as the run has workers. Their results are artifacts, so an evaluation that
    was stopped makes those that are missing.
    """
    embed = session.profile.embed
    key = evaluation_key(dataset.digest, training, params, embed)
    work = _Work(store=session.store.root, dataset=dataset.path, training=training, params=params, embed=embed)
    outcome: Outcome = "reused"
    with session.ledger.timed("evaluate"):
        if not session.store.has("evaluate", key):
            heads = len(choose_views(HeadDataset.open(dataset.path), params, embed.frontal))
            progress().stage("evaluate", heads)
            outcome = _evaluate_in_workers(session, work, heads)
        session.ledger.add("evaluate", made=outcome == "made", reused=outcome == "reused")
        result = load_evaluation(session.store.verify("evaluate", key).path)
    return outcome, key, result


@dataclass(frozen=True, kw_only=True)
class _Work:
    """An evaluation as plain values, for its processes."""

    store: Path | str
    dataset: Path
    training: Mapping[str, str]
    params: EvaluateParams
    embed: EmbedParams


def _evaluate_in_workers(session: Session, work: _Work, heads: int) -> Outcome:
    """Divide the heads, score them, and make the table in the first of the processes."""
    with ExitStack() as running:

        def start() -> Worker:
            return running.enter_context(session.pool.dedicated(threads=1))

        first = start()
        parts: list[list[int]] = first.call(_divide, work, min(worker_count(session.profile), heads))
        progress().advance("evaluate", by=heads - sum(map(len, parts)))
        workers = [first, *(start() for _ in parts[1:])]
        _score_in_workers(workers[: len(parts)], work, parts)
        outcome: Outcome = first.call(_evaluate, work)
    return outcome


def _score_in_workers(workers: Sequence[Worker], work: _Work, parts: Sequence[Sequence[int]]) -> None:
    """Score each part in its worker. The first error ends the other workers and is raised."""

    def shown(done: int) -> None:
        progress().advance("evaluate", by=done)

    with ThreadPoolExecutor(max_workers=max(len(parts), 1)) as threads:
        calls = [
            threads.submit(copy_context().run, partial(worker.call, _score, work, part, number, report=shown))
            for number, (worker, part) in enumerate(zip(workers, parts, strict=True))
        ]
        done, _ = wait(calls, return_when=FIRST_EXCEPTION)
        failed = next((call for call in done if call.exception() is not None), None)
        if failed is not None:
            for worker in workers:
                worker.close()
            failed.result()


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
    current_session().shown.show(
        create_table_artifact,
        table,
        key="evaluation",
        description="\n\n".join([description, *missing_lines(asdict(result))]),
    )


def _evaluated(work: _Work) -> "Evaluated":
    from spinmeround.tasks.evaluation.run import evaluated_training

    return evaluated_training(ArtifactStore(work.store), work.training, work.params, work.embed)


def _divide(work: _Work, workers: int) -> list[list[int]]:
    from spinmeround.tasks.evaluation.division import divide_heads

    return divide_heads(ArtifactStore(work.store), work.dataset, _evaluated(work), workers)


def _score(work: _Work, part: list[int], number: int, report: Callable[[int], None]) -> None:
    from spinmeround.tasks.evaluation.division import score_heads

    score_heads(ArtifactStore(work.store), work.dataset, _evaluated(work), part, number, lambda: report(1))


def _evaluate(work: _Work) -> Outcome:
    from spinmeround.tasks.evaluation.run import make_evaluation

    return make_evaluation(ArtifactStore(work.store), work.dataset, work.training, work.params, work.embed)[0]
