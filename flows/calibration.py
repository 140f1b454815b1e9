"""Flows that fit to a profile's heads: the screen to labels; a population and an inspector without labels."""

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.profile import ProfileParameter
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.stages import TASK_OPTIONS, run_stages, submit
from spinmeround.storage.documents import read_bytes
from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.tasks.embedded.params import InspectorParams
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.screening.calibrate import Label, calibrate, screen_toml, true_labels
from spinmeround.tasks.screening.decisions import generator_id, parse_decisions
from spinmeround.tasks.screening.labels import is_labels_file, parse_labels
from spinmeround.tasks.screening.params import CalibrateParams
from spinmeround.tasks.stage import Head


@flow(name="calibration", flow_run_name="calibration {profile.name}", persist_result=False)
def calibration_flow(profile: ProfileParameter, params: CalibrateParams, place: Place = Place()) -> list[str]:  # noqa: B008 (frozen)
    """Fit a verdict or limits to labels of the profile's heads; returns the written files.

    Raises ConfigError, before any head is scored, if the decisions file that `params.labels` names does not exist.
    """
    _check_source(params.labels)
    with join_session(profile, place) as session:
        runs = run_stages(session, [STAGES_BY_NAME["sample"], STAGES_BY_NAME["score"]])
        return list(submit(calibrate_task, params, after=runs).result())


@task(name="calibrate", task_run_name="calibrate", **TASK_OPTIONS)
def calibrate_task(params: CalibrateParams) -> State[list[str]]:
    """Fit the verdict or limits and write them, with their metrics, to the run's folder."""
    from spinmeround.tasks.screening.calibration_page import write_calibration  # loads Matplotlib

    session = current_session()
    session.quarantine.check()
    labels = _labels(session, params.labels)
    heads = [head for head in session.heads if head.id in labels and _scored(session, head)]
    scores = [load_scores(session.store.verify("score", session.keys[head.id]["score"]).path) for head in heads]
    chosen = [labels[head.id] for head in heads]
    lost = sum(not _scored(session, head) for head in session.heads)
    description = f"{len(heads)} heads of {session.heads[0].id} to {session.heads[-1].id}"
    description += f" (without {lost} that failed)" if lost else ""
    found = calibrate(
        scores,
        chosen,
        params,
        generator=session.profile.generator.name,
        fingerprint=session.generator.fingerprint,
        heads=description,
    )
    with environment_errors(session.folder.root):
        files = write_calibration(found, scores, chosen, session.folder.root)
    markdown = f"{found.origin}\n\n```toml\n{screen_toml(found, session.folder.verdict)}```"
    session.shown.show(create_markdown_artifact, markdown, key="screening", description="Screening")
    progress().say(f"{'verdict' if found.verdict else 'limits'}: {found.origin}")
    for line in found.advice:
        progress().say(line)
    for path in files:
        progress().say(f"wrote {path}")
    return Completed(message=found.origin, data=[str(path) for path in files])


@flow(name="population", flow_run_name="population {profile.name}", persist_result=False)
def population_flow(profile: ProfileParameter, place: Place = Place()) -> str:  # noqa: B008 (frozen)
    """Fit a population to the profile's heads; returns the written file, which `score.population` names."""
    with join_session(profile, place) as session:
        runs = run_stages(session, [STAGES_BY_NAME["sample"], STAGES_BY_NAME["score"]])
        return str(submit(population_task, after=runs).result())


@task(name="population", task_run_name="population", **TASK_OPTIONS)
def population_task() -> State[str]:
    """Fit the population and write it to the run's folder."""
    from spinmeround.tasks.screening.population import fit_to_scored

    session = current_session()
    session.quarantine.check()
    heads = [head for head in session.heads if _scored(session, head)]
    folders = [session.store.verify("score", session.keys[head.id]["score"]).path for head in heads]
    path = session.folder.root / "population.npz"
    description = f"{len(heads)} heads of {session.heads[0].id} to {session.heads[-1].id}"
    file = fit_to_scored(folders, path, generator=session.profile.generator.name, heads=description)
    progress().say(f"population: {file.origin}")
    progress().say(f"wrote {path}; set score.population={path} to score heads against it")
    return Completed(message=file.origin, data=str(path))


@flow(name="inspector", flow_run_name="inspector {profile.name}", persist_result=False)
def inspector_flow(profile: ProfileParameter, params: InspectorParams, place: Place = Place()) -> str:  # noqa: B008 (frozen)
    """Train an inspector on the previews of the profile's heads; returns the file, which `score.inspector` names."""
    with join_session(profile, place) as session:
        runs = run_stages(session, [STAGES_BY_NAME["sample"]])
        return str(submit(inspector_task, params, after=runs).result())


@task(name="inspector", task_run_name="inspector", **TASK_OPTIONS)
def inspector_task(params: InspectorParams) -> State[str]:
    """Train the inspector and write it to the run's folder."""
    from spinmeround.tasks.screening.inspector import train_on_previews

    session = current_session()
    session.quarantine.check()
    keys = [session.keys[head.id]["sample"] for head in session.heads]
    folders = [session.store.verify("sample", key).path for key in keys if session.store.has("sample", key)]
    path = session.folder.root / "inspector.onnx"
    side = generator_of(session.profile.generator).box_warp
    figures = train_on_previews(folders, path, params, side, progress().say)
    found = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
    progress().say(f"inspector of {len(folders)} heads: {found}")
    progress().say(f"wrote {path}; set score.inspector={path} to inspect heads with it")
    return Completed(message=found, data=str(path))


def _check_source(labels: str) -> None:
    if labels != "truth" and not Path(labels).is_file():
        raise ConfigError(
            f"--labels {labels}: expected 'truth', a labels file of 'spinmeround screen label' or a decisions file of "
            "'spinmeround review', found none"
        )


def _scored(session: Session, head: Head) -> bool:
    return session.store.has("score", session.keys[head.id]["score"])


def _labels(session: Session, source: str) -> dict[str, Label]:
    """Labels by head id: of all heads from the generator's ground truth, or of the heads that a file labels.

    The heads that a person decided on in a review count as drawn at random, which is right if that is all heads.
    """
    if source == "truth":
        found = true_labels(generator_of(session.profile.generator), [head.seed for head in session.heads])
        return {head.id: label for head, label in zip(session.heads, found, strict=True)}
    path, generator = Path(source), generator_id(session.profile.generator)
    data = read_bytes(path, "a labels or decisions file")
    if not is_labels_file(data):
        decisions = parse_decisions(data, generator, path).active()
        return {name: Label(defective=decision == "drop") for name, decision in decisions.items()}
    file = parse_labels(data, generator, path)
    return {
        name: Label(defective=defective, at_random=file.drawn_at_random(name))
        for name, defective in file.defective().items()
    }
