"""The retraining flow: trains on one dataset, named by its digest, then evaluates, registers and promotes the model.

A new dataset's event carries what this flow needs; an automation starts it (`flows.server.automations`).
"""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from spinmeround.flows.evaluation import evaluation_flow
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.promotion import Promotion, promotion_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import join_session
from spinmeround.flows.stages import sized
from spinmeround.flows.training import check_networks, training_flow
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.storage.manifests import Sha256

DatasetFolder = Annotated[str, Field(description="Folder of a published dataset")]
DatasetDigest = Annotated[Sha256, Field(description="Digest that the dataset must have")]


@flow(name="retraining", flow_run_name="retraining {profile.name} on {digest:.12}", persist_result=False)
def retraining_flow(
    profile: ProfileParameter,
    dataset: DatasetFolder,
    digest: DatasetDigest,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> Promotion:
    """Train the phases of a profile on the dataset in a folder, evaluate the model, and promote it if it is better.

    The training reads every byte of the dataset before its first step. Raises DatasetError if the dataset has another
    digest than `digest`.
    """
    with join_session(profile, place) as session:
        require_digest(Path(dataset), digest)
        check_networks(session)
        sized(training_flow, profile)(profile, place, dataset)
        sized(evaluation_flow, profile)(profile, place, dataset)
        return promotion_flow(profile, place, dataset)


def require_digest(dataset: Path, digest: str) -> None:
    """Raises DatasetError if the folder has no dataset, or one of another digest."""
    found = HeadDataset.open(dataset.expanduser().absolute()).digest
    if found != digest:
        raise DatasetError(
            f"{dataset}: expected the dataset {digest[:12]} that was published, found {found[:12]}; start the "
            "retraining with the digest of the dataset that it shall use"
        )
