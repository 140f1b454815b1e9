"""The complete workflow as one run: dataset, training, evaluation, report."""

from prefect import flow

from spinmeround.flows.dataset import dataset_flow
from spinmeround.flows.evaluation import evaluation_flow
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.report import report_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import join_session
from spinmeround.flows.stages import sized
from spinmeround.flows.training import check_networks, training_flow


@flow(name="workflow", flow_run_name="workflow {profile.name}, {profile.plan.heads} heads", persist_result=False)
def workflow_flow(profile: ProfileParameter, place: Place = Place(), retry_quarantined: bool = False) -> str:  # noqa: B008 (frozen)
    """Build, train, evaluate and report; returns the path of the report."""
    with join_session(profile, place) as session:
        check_networks(session)
        sized(dataset_flow, profile)(profile, place, retry_quarantined)
        sized(training_flow, profile)(profile, place)
        sized(evaluation_flow, profile)(profile, place)
        return report_flow(profile, place)
