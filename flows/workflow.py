"""The whole workflow: dataset, training, evaluation, report, as one run in the UI."""

from prefect import flow

from flows.dataset import dataset_flow
from flows.evaluation import evaluation_flow
from flows.profile import Profile
from flows.report import report_flow
from flows.run_folder import Place
from flows.session import joined
from flows.stages import sized
from flows.training import training_flow


@flow(name="workflow", flow_run_name="{profile.name}", persist_result=False)
def workflow_flow(profile: Profile, place: Place = Place(), retry_quarantined: bool = False) -> str:  # noqa: B008 (frozen)
    """From seeds to a report; returns the report's path."""
    with joined(profile, place):
        sized(dataset_flow, profile)(profile, place, retry_quarantined)
        sized(training_flow, profile)(profile, place)
        sized(evaluation_flow, profile)(profile, place)
        return report_flow(profile, place)
