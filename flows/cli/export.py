"""`spinmeround export`, a head of a run as a mesh file with vertex colours, and `export-model`, its trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.storage.errors import ConfigError, as_config_error

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.flows.run.session import Session
    from spinmeround.tasks.cards.model import ModelFacts
    from spinmeround.tasks.dataset.publish import Published
    from spinmeround.tasks.stage import Head
    from spinmeround.tasks.training.chain.plan import PlannedTraining


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    for command in (export, export_model):
        run_command(app, panel=panel)(command)


def export(
    head: Annotated[str, typer.Argument(help="Id of a head whose mesh and views have been made.")],
    options: RunOptions,
    to: Annotated[Path, typer.Option(help="File to write: .glb, .ply or .obj.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a head's mesh, coloured from its views, for any mesh viewer."""
    from spinmeround.flows.run.folder import find_run
    from spinmeround.storage.artifacts import ArtifactStore
    from spinmeround.tasks.exchange.mesh_files import check_target, export_head
    from spinmeround.tasks.heads.mesh import MESH
    from spinmeround.tasks.heads.render import RENDER
    from spinmeround.tasks.heads.sample import SAMPLE
    from spinmeround.tasks.stage import head_keys

    check_target(to, force=force)
    profile, place = options.load()
    stages = (SAMPLE, RENDER, MESH)
    keys = head_keys(stages, _find_head(profile, head), {stage.name: stage.sections(profile) for stage in stages})
    store = ArtifactStore(find_run(place, profile.name).store)
    missing = [stage.name for stage in (RENDER, MESH) if not store.has(stage.name, keys[stage.name])]
    if missing:
        raise ConfigError(
            f"export {head}: expected its artifacts {' and '.join(missing)} in {store.root}, found none for these "
            "parameters (not made yet, or the head was screened out); run 'spinmeround build' with the same options"
        )
    mesh = export_head(store, keys, profile.views.cameras(), to)
    print_values({"mesh": f"{to} ({len(mesh.vertices)} vertices, {len(mesh.faces)} faces)"})


def export_model(
    options: RunOptions,
    to: Annotated[Path, typer.Option(help="New folder for the pipeline and its card.")],
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Folder of the dataset that the training was given, if any.")
    ] = None,
) -> None:
    """Copy the trained pipeline of a profile to a folder, with a model card for the Hugging Face hub.

    The card states what the store records: the data, parameters, licences of the parts, and the metrics of `evaluate`.
    """
    from spinmeround.flows.dataset import dataset_of
    from spinmeround.flows.evaluation import require_training
    from spinmeround.flows.run.session import view_session
    from spinmeround.tasks.exchange.model_folder import export_model as write_model

    profile, place = options.load()
    with view_session(profile, place) as session:
        data = dataset_of(session, None if dataset is None else str(dataset.absolute()))
        training = require_training(session, data)
        facts = _model_facts(session, data, training)
        write_model(session.store.verify(training.name, training.key).path / "pipeline", facts, to)
    evaluated = "with its metrics" if facts.evaluation else "without metrics: not evaluated with these parameters"
    print_values({"model": f"{to} ({evaluated})"})


def _model_facts(session: "Session", data: "Published", training: "PlannedTraining") -> "ModelFacts":
    from dataclasses import asdict

    from spinmeround.flows.evaluation import find_evaluation
    from spinmeround.flows.training import load_trainings, planned_trainings
    from spinmeround.storage.dataset import HeadDataset
    from spinmeround.tasks.cards.model import ModelFacts, TrainedPhase
    from spinmeround.tasks.evaluation.params import load_evaluation
    from spinmeround.tasks.heads.encode import autoencoder_fingerprint

    profile = session.profile
    made = [each for each in planned_trainings(session, data.path) if session.store.has(each.name, each.key)]
    evaluation = find_evaluation(session, data, training)
    found = load_evaluation(session.store.verify("evaluate", evaluation).path) if evaluation else None
    return ModelFacts(
        name=profile.name,
        phases=tuple(
            TrainedPhase(phase=each.name, key=each.key, steps=result.steps, loss_last=result.loss_last)
            for each, result in zip(made, load_trainings(session, made), strict=True)
        ),
        code_version=session.store.verify(training.name, training.key).manifest.code_version,
        train=profile.train.model_dump(mode="json"),
        encode=profile.encode.model_dump(mode="json"),
        autoencoder=autoencoder_fingerprint(profile.encode),
        dataset=HeadDataset.open(data.path).attributes,
        digest=data.digest,
        evaluation=asdict(found) if found else None,
        evaluation_digest=data.digest if found else None,
        evaluate=profile.evaluate.model_dump(mode="json"),
    )


def _find_head(profile: "Profile", head_id: str) -> "Head":
    from spinmeround.tasks.heads.generator import generator_of
    from spinmeround.tasks.heads.plan import plan_heads

    with as_config_error("generator: "):
        heads = plan_heads(generator_of(profile.generator).name, profile.plan)
    for head in heads:
        if head.id == head_id:
            return head
    raise ConfigError(f"export {head_id!r}: expected a head of profile {profile.name}, {heads[0].id} to {heads[-1].id}")
