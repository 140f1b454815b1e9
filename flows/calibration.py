"""Flows that score a profile's heads and fit to them: the screen's limits to labels, a population without labels."""

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, current_session, join_session
from spinmeround.flows.stages import TASK_OPTIONS, run_stages, submit
from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.screening.calibrate import Label, calibrate, limits_toml, true_labels
from spinmeround.tasks.screening.decisions import generator_id, load_decisions
from spinmeround.tasks.screening.params import CalibrateParams
from spinmeround.tasks.stage import Head


@flow(name="calibration", flow_run_name="calibration {profile.name}", persist_result=False)
def calibration_flow(profile: Profile, params: CalibrateParams, place: Place = Place()) -> list[str]:  # noqa: B008 (frozen)
    """Fit the screen's limits to labels of the profile's heads; returns the written files.

    Raises ConfigError, before any head is scored, if the decisions file that `params.labels` names does not exist.
    """
    _check_source(params.labels)
    with join_session(profile, place) as session:
        runs = run_stages(session, [STAGES_BY_NAME["sample"], STAGES_BY_NAME["score"]])
        return list(submit(calibrate_task, params, after=runs).result())


@task(name="calibrate", task_run_name="calibrate", **TASK_OPTIONS)
def calibrate_task(params: CalibrateParams) -> State[list[str]]:
    """Fit the limits and write them, with their metrics, to the run's folder."""
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
    found = calibrate(scores, chosen, params, generator=session.profile.generator.name, heads=description)
    with environment_errors(session.folder.root):
        files = write_calibration(found, scores, chosen, session.folder.root)
    markdown = f"{found.origin}\n\n```toml\n{limits_toml(found)}```"
    create_markdown_artifact(markdown, key="screening", description="Limits")
    progress().say(f"limits: {found.origin}")
    for path in files:
        progress().say(f"wrote {path}")
    return Completed(message=found.origin, data=[str(path) for path in files])


@flow(name="population", flow_run_name="population {profile.name}", persist_result=False)
def population_flow(profile: Profile, place: Place = Place()) -> str:  # noqa: B008 (frozen)
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


def _check_source(labels: str) -> None:
    if labels != "truth" and not Path(labels).is_file():
        raise ConfigError(
            f"--labels {labels}: expected 'truth' or a decisions file of `spinmeround review`, found none"
        )


def _scored(session: Session, head: Head) -> bool:
    return session.store.has("score", session.keys[head.id]["score"])


def _labels(session: Session, source: str) -> dict[str, Label]:
    """Labels by head id: of all heads from the generator's ground truth, or of the reviewed heads from a file."""
    if source == "truth":
        found = true_labels(generator_of(session.profile.generator), [head.seed for head in session.heads])
        return {head.id: label for head, label in zip(session.heads, found, strict=True)}
    decisions = load_decisions(Path(source), generator_id(session.profile.generator)).active()
    return {name: Label(defective=decision == "drop") for name, decision in decisions.items()}
