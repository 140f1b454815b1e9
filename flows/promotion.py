"""The promotion flow: registers the trained model of a profile, and moves an alias to it if it is better.

Both models generate the same views of the same held-out heads, those of the new model's dataset, and are compared by
the metric of `promote`. Whatever the outcome, it is an artifact in the UI, with its reason.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import dataset_of
from spinmeround.flows.evaluation import evaluate_task, evaluated, require_training
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.review.approval import wait_for_approval
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.pause import current_flow_run
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.stages import TASK_OPTIONS, submit
from spinmeround.storage.artifacts import AliasMoved, ModelRegistry, ModelVersion, stamp
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.evaluation.params import load_evaluation
from spinmeround.tasks.markdown import values_table
from spinmeround.tasks.training.params import load_training

if TYPE_CHECKING:
    from spinmeround.tasks.promotion.compare import Comparison


class Promotion(FrozenModel):
    """What became of a new model: its name and version, whether the alias points to it now, and why.

    `before` is the version that the alias pointed to, None for none.
    """

    model: str
    version: int
    alias: str
    before: int | None
    promoted: bool
    reason: str


@flow(name="promotion", flow_run_name="promotion {profile.name}", persist_result=False)
def promotion_flow(profile: ProfileParameter, place: Place = Place(), dataset: str | None = None) -> Promotion:  # noqa: B008 (frozen)
    """Evaluate and register the trained model of a profile, and promote it if it is better than the promoted one.

    `dataset` is the folder that the training was given, if it was not the profile's own dataset. With
    `promote.approval` the flow run is paused until a person has approved of a better model.
    """
    with join_session(profile, place) as session:
        if profile.evaluate.split == "all":
            raise ConfigError("evaluate.split: expected held-out for a promotion, got all, which the model has seen")
        data = dataset_of(session, dataset)
        training = require_training(session, data)
        key = submit(evaluate_task, data, training.name, training.key).result()
        number = submit(register_task, data, training.name, training.key, key).result()
        return _decide(session, data, number, key)


@task(name="register", task_run_name="register", **TASK_OPTIONS)
def register_task(dataset: Published, stage: str, training: str, evaluation: str) -> State[int]:
    """Add a training to the registry, with its metrics and card; `training` is a key of the stage."""
    from spinmeround.tasks.promotion.card import model_card

    session = current_session()
    trained = session.store.verify(stage, training)
    result = load_evaluation(session.store.verify("evaluate", evaluation).path)
    data = HeadDataset.open(dataset.path)
    version = ModelRegistry(session.store).add(
        session.profile.promote.model,
        stage=stage,
        key=training,
        evaluation=evaluation,
        evaluated_on=dataset.digest,
        metrics=result.model,
        card=model_card(trained.manifest, load_training(trained.path), data, result),
        registered=stamp(str(current_flow_run())),
    )
    return Completed(message=f"{session.profile.promote.model}@{version.number}", data=version.number)


@task(name="compare", task_run_name="compare with version {promoted}", **TASK_OPTIONS)
def compare_task(dataset: Published, evaluation: str, promoted: int | None) -> "State[Comparison]":
    """Compare an evaluation with that of the promoted version on the same heads, which is made if it is missing."""
    from spinmeround.tasks.promotion.compare import compare

    session = current_session()
    params, before = session.profile.promote, None
    if promoted is not None:
        registry = ModelRegistry(session.store)
        version = registry.get(params.model).version(promoted)
        registry.open(version)
        # methods of others have no part in the comparison
        views = session.profile.evaluate.model_copy(update={"predictions": {}})
        before = evaluated(session, dataset, {version.stage: version.key}, views)[2]
    new = load_evaluation(session.store.verify("evaluate", evaluation).path)
    found = compare(new, before, params)
    return Completed(message=found.reason, data=found)


def _decide(session: Session, data: Published, number: int, evaluation: str) -> Promotion:
    """Compare, ask a person if the profile says so, and move the alias; again if somebody moves it meanwhile."""
    params, registry = session.profile.promote, ModelRegistry(session.store)
    while True:
        model = registry.get(params.model)
        version, before = model.version(number), model.at(params.alias)
        promoted = None if before is None else before.number
        if before == version:
            return _finished(session, version, before, f"{params.alias} points to this version already", promoted=True)
        found = submit(compare_task, data, evaluation, promoted).result()
        reason = found.reason
        if not found.better:
            return _finished(session, version, before, reason, promoted=False)
        if params.approval:
            answer = wait_for_approval(registry, number, params, _question(session, version, before, reason))
            comment = f" ({answer.comment})" if answer.comment else ""
            reason += f"; {'approved' if answer.approved else 'refused'} by {answer.given.by}{comment}"
            if not answer.approved:
                return _finished(session, version, before, reason, promoted=False)
        try:
            registry.move_alias(
                params.model,
                params.alias,
                number,
                reason=reason,
                moved=stamp(str(current_flow_run())),
                only_from=promoted,
            )
        except AliasMoved as error:
            progress().say(f"promotion: {error}")
            continue
        return _finished(session, version, before, reason, promoted=True)


def _question(session: Session, version: ModelVersion, before: ModelVersion | None, reason: str) -> str:
    params = session.profile.promote
    asked = f"Shall **{params.alias}** of {params.model} move from {_named(before)} to version {version.number}?"
    return f"{asked}\n\n{reason[0].upper()}{reason[1:]}.\n\n{version.card}"


def _finished(
    session: Session, version: ModelVersion, before: ModelVersion | None, reason: str, *, promoted: bool
) -> Promotion:
    """Record the outcome and show it as an artifact in the UI."""
    params = session.profile.promote
    found = Promotion(
        model=params.model,
        version=version.number,
        alias=params.alias,
        before=None if before is None else before.number,
        promoted=promoted,
        reason=reason,
    )
    outcome = "promoted" if promoted else "not promoted"
    session.results["promotion"] = found.model_dump()
    progress().say(f"{params.model}@{version.number} {outcome}: {reason}")
    facts = values_table(
        {
            "new model": f"{params.model}@{version.number}",
            "alias": f"{params.alias}, before on {_named(before)}",
            "metric": f"{params.metric}, margin {params.margin:g}",
            "training": f"`{Path(version.stage, version.key)}`",
            "dataset": f"`{version.dataset}`",
        }
    )
    session.shown.show(
        create_markdown_artifact,
        f"# {params.model}@{version.number}: {outcome}\n\n{reason[0].upper()}{reason[1:]}.\n\n{facts}",
        key="promotion",
        description=f"{params.model}@{version.number} {outcome}",
    )
    return found


def _named(version: ModelVersion | None) -> str:
    return "no version" if version is None else f"version {version.number}"
