"""The ablation flow: train the model and its variants by the same stages, and compare them on the same views.

Trainings and evaluations are artifacts as any others, so an ablation that was stopped resumes with the next step of the
next training, or the next head of the next evaluation.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.evaluation import evaluated
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.run.shown import picture_markdown
from spinmeround.flows.stages import TASK_OPTIONS, state_name, submit
from spinmeround.flows.training import (
    check_networks,
    make_in_worker,
    planned_trainings,
    submit_data,
    submit_phases,
)
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.ablation.params import (
    LABELS,
    STAGE,
    AblateParams,
    AblationResult,
    ablation_key,
    ablation_views,
    load_ablation,
    variant_training,
)
from spinmeround.tasks.ablation.table import ordering_table
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.evaluation.params import MODEL, evaluation_key
from spinmeround.tasks.evaluation.table import metric_table, missing_lines
from spinmeround.tasks.evaluation.views import choose_views


@flow(name="ablation", flow_run_name="ablation {profile.name}", persist_result=False)
def ablation_flow(profile: ProfileParameter, place: Place = Place(), dataset: str | None = None) -> str:  # noqa: B008 (frozen)
    """Train the model and the variants of `ablate.variants`, evaluate each, and compare; returns the artifact's key.

    `dataset` is the folder of another dataset than the profile's, for instance of an imported one.
    """
    variant_training(profile.train, MODEL)  # refuses a profile without one
    with join_session(profile, place) as session:
        check_networks(session)
        data, before = submit_data(session, dataset)
        assert data is not None
        _check_views(session, data)
        runs = [*before]
        for model in profile.ablate.models:
            before = submit_phases(session, data, before[-1:], model)
            named = evaluate_model_task.with_options(task_run_name=f"evaluate {model}")
            before.append(submit(named, data, model, after=before))
            runs += before
        runs.append(submit(compare_task, data, after=before))
        return str([run.result() for run in runs][-1])  # the error of the first that failed


def _check_views(session: Session, data: Published) -> None:
    """Raises ConfigError, before anything is trained, if the heads have too few views or none is held out."""
    opened, params = HeadDataset.open(data.path), session.profile.ablate
    if 1 + params.targets > opened.views:
        raise ConfigError(
            f"ablate.targets: expected at most {opened.views - 1}, as {data.path.name} has {opened.views} views a "
            f"head and one is the input, got {params.targets}"
        )
    choose_views(opened, ablation_views(session.profile.evaluate, params), session.profile.embed.frontal)


@task(name="evaluate", task_run_name="evaluate", **TASK_OPTIONS)
def evaluate_model_task(dataset: Published, model: str) -> State[str]:
    """Generate and measure the views of the ablation with the model or a variant."""
    session = current_session()
    training = planned_trainings(session, dataset.path, model)[-1]
    params = ablation_views(session.profile.evaluate, session.profile.ablate)
    outcome, key, result = evaluated(session, dataset, {training.name: training.key}, params)
    return Completed(name=state_name(outcome), message=f"{model}: {len(result.heads)} held-out heads", data=key)


@task(name="ablate", task_run_name="ablate", **TASK_OPTIONS)
def compare_task(dataset: Published) -> State[str]:
    """Make the table and the figure, and copy them to the run's folder."""
    session = current_session()
    params = session.profile.ablate
    evaluations, steps = planned_comparison(session, dataset)
    key = ablation_key(evaluations, steps, params)
    with session.ledger.timed(STAGE):
        arguments = (session.store.root, evaluations, steps, params)
        outcome = make_in_worker(session, STAGE, key, 1, _compare, *arguments)
        folder = session.store.verify(STAGE, key).path
        for name in ("ablation.json", "figure.png"):
            session.folder.replace(session.folder.ablation / name, (folder / name).read_bytes())
    result = load_ablation(folder)
    session.results["ablation"] = {"key": key, "folder": str(session.folder.ablation), **asdict(result)}
    _show(result, folder / "figure.png")
    return Completed(name=state_name(outcome), message=f"{len(params.models)} models", data=key)


def planned_comparison(session: Session, dataset: Published) -> tuple[dict[str, str], dict[str, int]]:
    """The keys of the evaluations and the steps of the trainings, by model."""
    views = ablation_views(session.profile.evaluate, session.profile.ablate)
    evaluations, steps = dict[str, str](), dict[str, int]()
    for model in session.profile.ablate.models:
        planned = planned_trainings(session, dataset.path, model)
        steps[model] = sum(each.params.steps for each in planned)
        trained: dict[str, str] = {planned[-1].name: planned[-1].key}
        evaluations[model] = evaluation_key(dataset.digest, trained, views, session.profile.embed)
    return evaluations, steps


def find_ablation(session: Session, dataset: Published) -> str | None:
    """Key of the ablation of this profile on the dataset; None if the store has none, or the profile can't have one."""
    if not HeadDataset.open(dataset.path).has_latents:
        return None
    try:
        key = ablation_key(*planned_comparison(session, dataset), session.profile.ablate)
    except ConfigError:
        return None
    return key if session.store.has(STAGE, key) else None


def _show(result: AblationResult, figure: Path) -> None:
    header, rows = metric_table(result.table)
    heads = len(result.table["heads"])
    steps = ", ".join(f"{LABELS[name]} {count}" for name, count in result.steps.items())
    about = [
        f"{heads} held-out heads, one frontal input: means with 95% intervals; p of the paired test with the model",
        f"Steps: {steps}",
        *missing_lines(result.table),
    ]
    table = [dict(zip(header, row, strict=True)) for row in rows]
    shown = current_session().shown
    shown.show(create_table_artifact, table, key="ablation", description="\n\n".join(about))
    header, rows = ordering_table(result.orderings)
    named = [dict(zip((*header[:-1], "better"), row, strict=True)) for row in rows]
    shown.show(create_table_artifact, named, key="ablation-orderings", description="The model minus each variant")
    with Image.open(figure) as picture:
        markdown = picture_markdown(picture, "Figure of the ablation")
    shown.show(create_markdown_artifact, markdown, key="ablation-figure")


def _compare(
    store: Path | str,
    evaluations: Mapping[str, str],
    steps: Mapping[str, int],
    params: AblateParams,
    report: Callable[[tuple[int, str]], None],
) -> Outcome:
    from spinmeround.tasks.ablation.run import make_ablation

    outcome = make_ablation(ArtifactStore(store), evaluations, steps, params)[0]
    report((1, ""))
    return outcome
