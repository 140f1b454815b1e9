"""The sampling flow: views of a head from the trained model of a profile, as pictures in a folder."""

from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.dataset import find_dataset
from spinmeround.flows.evaluation import require_training
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import current_session, join_session, worker_count
from spinmeround.flows.stages import TASK_OPTIONS, submit
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.dataset.publish import Published
from spinmeround.tasks.generation.params import SampleViewsParams
from spinmeround.tasks.heads.embed import EmbedParams, detector_path
from spinmeround.tasks.training.params import load_training


@flow(name="sampling", flow_run_name="sampling {profile.name}", persist_result=False)
def sampling_flow(profile: Profile, params: SampleViewsParams, folder: str, place: Place = Place()) -> list[str]:  # noqa: B008 (frozen)
    """Sample from the trained model of a profile into `folder`; returns the files."""
    with join_session(profile, place) as session:
        if params.condition in ("photo", "posed") and params.identity is None and detector_path(profile.embed) is None:
            warning = unknown_face(profile)
            get_run_logger().warning(warning)
            progress().say(warning)
        dataset = find_dataset(session)
        training = require_training(session, dataset)
        return list(submit(sample_task, dataset, training, params, folder).result())


def unknown_face(profile: Profile) -> str:
    """What a user is told whose picture's identity can't be found."""
    trained = "" if profile.train.identity_dropout else ", which the model was not trained with"
    return (
        "the profile names no detector (embed.pack): pictures are not searched for a face, and whose it is stays "
        f"unknown unless --identity says so{trained}"
    )


@task(name="sample-views", task_run_name="sample views", **TASK_OPTIONS)
def sample_task(dataset: Published, training: str, params: SampleViewsParams, folder: str) -> State[list[str]]:
    """Generate and write, in a process of its own that has all cores."""
    session = current_session()
    with session.pool.dedicated(threads=worker_count(session.profile)) as worker:
        arguments = (session.store.root, dataset.path, training, params, Path(folder), session.profile.embed)
        files = worker.call(_sample, *arguments, report=_Shown())
    return Completed(message=f"{len(files)} files in {folder}", data=files)


class _Shown:
    """Shows (steps done, steps in all) reports; a report may be several steps further than the one before."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, report: tuple[int, int]) -> None:
        done, steps = report
        if self._done == 0:
            progress().stage("sample", steps)
        progress().advance("sample", done - self._done)
        self._done = done


def _sample(
    store: Path | str,
    dataset: Path,
    training: str,
    params: SampleViewsParams,
    folder: Path,
    embed: EmbedParams,
    report: Callable[[tuple[int, int]], None],
) -> list[str]:
    from spinmeround.tasks.generation.run import run_sampling  # the networks are for the worker alone

    def step(done: int, steps: int) -> None:
        report((done, steps))

    pipeline = load_training(ArtifactStore(store).open("train", training).path).pipeline
    return [str(path) for path in run_sampling(pipeline, dataset, params, folder, step, embed)]
