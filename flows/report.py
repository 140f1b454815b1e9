"""The report flow: one HTML file about a run, from its artifacts."""

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.ablation import find_ablation
from spinmeround.flows.dataset import dataset_of
from spinmeround.flows.evaluation import find_evaluation, find_training
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import current_session, join_session
from spinmeround.flows.stages import TASK_OPTIONS, submit
from spinmeround.storage.artifacts import last_reconstruction
from spinmeround.tasks.report.collect import FinishedRun
from spinmeround.tasks.report.render import run_report


@flow(name="report", flow_run_name="report {profile.name}", persist_result=False)
def report_flow(
    profile: ProfileParameter,
    place: Place = Place(),  # noqa: B008 (frozen)
    dataset: str | None = None,
) -> str:
    """Write the report of a run; returns its path. It covers training, evaluation and ablation if they are complete,
    and the last reconstruction if there is one.

    `dataset` is the folder of another dataset than the profile's, for instance of an imported one; its report is a file
    of its own.
    """
    with join_session(profile, place):
        return str(submit(report_task, dataset).result())


@task(name="report", task_run_name="report", **TASK_OPTIONS)
def report_task(given: str | None = None) -> State[str]:
    """Collect the artifacts and render the page; `given` is the folder of another dataset than the profile's."""
    session = current_session()
    dataset = dataset_of(session, given)
    training = find_training(session, dataset)
    evaluation = find_evaluation(session, dataset, training) if training else None
    ablation = find_ablation(session, dataset)
    made = last_reconstruction(session.folder.root) if given is None else None
    splats = str(made["key"]) if made and session.store.has("reconstruct", str(made["key"])) else None
    with session.ledger.timed("report"):
        run = FinishedRun(
            name=session.profile.name,
            store=session.store,
            heads=session.heads if given is None else (),
            keys=session.keys if given is None else {},
            dataset=dataset.path,
            training=(training.name, training.key) if training else None,
            evaluation=("evaluate", evaluation) if evaluation else None,
            ablation=("ablate", ablation) if ablation else None,
            reconstruction=("reconstruct", splats) if splats else None,
            stages=session.ledger.stages(),
            parameters=session.profile.model_dump(mode="json"),
        )
        report = session.folder.report
        target = report if given is None else report.with_name(f"report-{dataset.digest[:12]}.html")
        path = run_report(run, target, session.profile.report)
    session.ledger.add("report", made=1)
    session.results["report"] = str(path)
    return Completed(message=str(path), data=str(path))
