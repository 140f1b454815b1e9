"""`spinmeround export`: writes a head of a run as a mesh file with vertex colours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.storage.errors import ConfigError, as_config_error

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.tasks.stage import Head


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    run_command(app, panel=panel)(export)


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


def _find_head(profile: "Profile", head_id: str) -> "Head":
    from spinmeround.tasks.heads.generator import generator_of
    from spinmeround.tasks.heads.plan import plan_heads

    with as_config_error("generator: "):
        heads = plan_heads(generator_of(profile.generator).name, profile.plan)
    for head in heads:
        if head.id == head_id:
            return head
    raise ConfigError(f"export {head_id!r}: expected a head of profile {profile.name}, {heads[0].id} to {heads[-1].id}")
