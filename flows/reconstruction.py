"""The reconstruction flow: splats and a mesh of a head, from its true views, from generated ones, or from a folder."""

import json
from collections.abc import Callable
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import dataset_of
from spinmeround.flows.generation import generated
from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.stages import TASK_OPTIONS, state_name, submit
from spinmeround.flows.training import make_in_worker
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.tasks.generation.params import HeadInput
from spinmeround.tasks.reconstruction.params import (
    STAGE,
    FolderSource,
    GeneratedViews,
    HeadSource,
    ReconstructionRequest,
    ReconstructParams,
    TrueViews,
    name_of,
    reconstruction_key,
)


@flow(name="reconstruction", flow_run_name="reconstruction {profile.name}", persist_result=False)
def reconstruction_flow(
    profile: ProfileParameter,
    request: ReconstructionRequest,
    folder: str,
    place: Place = Place(),  # noqa: B008 (frozen)
    dataset: str | None = None,
    model: str | None = None,
) -> str:
    """Reconstruct a head from views and write the files to `folder`; returns the key of the artifact.

    `dataset` is the folder of another dataset than the profile's. `model` is that of the generation: an alias or
    NAME@VERSION in the store's registry, 'embedded', or the folder of a pipeline, of a MultiviewUNet or of a
    checkpoint, by default the trained model of the run. Generated views are kept in the folder `views`.
    """
    with join_session(profile, place) as session:
        source = _source(session, request, folder, dataset, model)
        return str(submit(reconstruct_task, source, folder).result())


def _source(
    session: Session, request: ReconstructionRequest, folder: str, dataset: str | None, model: str | None
) -> HeadSource | FolderSource:
    asked = request.views
    if isinstance(asked, TrueViews):
        return HeadSource(dataset=str(dataset_of(session, dataset).path), head=asked.head)
    if not isinstance(asked, GeneratedViews):
        return FolderSource(folder=asked.folder)
    views, given = Path(folder) / "views", asked.params.given
    generated(session, asked.params, str(views), model, dataset)
    truth = None
    if isinstance(given, HeadInput):
        truth = HeadSource(dataset=str(dataset_of(session, dataset).path), head=given.head)
    return FolderSource(folder=str(views), truth=truth)


@task(name=STAGE, task_run_name=STAGE, **TASK_OPTIONS)
def reconstruct_task(source: HeadSource | FolderSource, folder: str) -> State[str]:
    """Fit and score in a dedicated process that uses all cores, then copy the files."""
    from spinmeround.tasks.reconstruction.files import SCORES, copy_reconstruction

    session = current_session()
    params = session.profile.reconstruct
    key = reconstruction_key(source, params)
    with session.ledger.timed(STAGE):
        arguments = (session.store.root, source, params)
        outcome = make_in_worker(session, STAGE, key, params.splats.steps, _reconstruct, *arguments)
        artifact = session.store.verify(STAGE, key).path
        copy_reconstruction(artifact, Path(folder))
    scores = json.loads((artifact / SCORES).read_text(encoding="utf-8"))
    session.results["reconstruction"] = {"key": key, "folder": folder, **scores}
    table = [{"views": name, **scores[name]} for name in ("held_out", "truth") if name in scores]
    current_session().shown.show(
        create_table_artifact, table, key="reconstruction", description=f"Splats of {name_of(source)}"
    )
    return Completed(name=state_name(outcome), message=f"{scores['gaussians']} splats in {folder}", data=key)


def _reconstruct(
    store: Path | str,
    source: HeadSource | FolderSource,
    params: ReconstructParams,
    report: Callable[[tuple[int, str]], None],
) -> Outcome:
    from spinmeround.models.reconstruction.optimisation import StepReport
    from spinmeround.tasks.reconstruction.run import make_reconstruction

    def on_step(done: StepReport) -> None:
        report((done.step, f"loss {done.loss:.4f}, {done.gaussians} splats"))

    return make_reconstruction(ArtifactStore(store), source, params, on_step)[0]
