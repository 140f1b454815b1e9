"""`spinmeround export`: a head of a run as a mesh file with colours."""

from pathlib import Path

from spinmeround.flows.cli.options import RunOptions
from spinmeround.flows.run.folder import find_run
from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.errors import ConfigError, as_config_error
from spinmeround.storage.records import TriangleMesh
from spinmeround.tasks.exchange.mesh_files import check_target, export_head
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.mesh import MESH
from spinmeround.tasks.heads.plan import plan_heads
from spinmeround.tasks.heads.render import RENDER
from spinmeround.tasks.heads.sample import SAMPLE
from spinmeround.tasks.stage import head_keys


def export_from_run(options: RunOptions, head_id: str, target: Path, *, force: bool) -> TriangleMesh:
    """Writes the mesh of a head whose stages `mesh` and `render` have been run; returns it.

    Raises ConfigError for a run that is not there, a head that the profile does not ask for or that is not made,
    and an impossible target.
    """
    check_target(target, force=force)
    profile, place = options.load()
    with as_config_error("generator: "):
        heads = plan_heads(generator_of({"generator": profile.generator}).name, profile.plan)
    head = next((each for each in heads if each.id == head_id), None)
    if head is None:
        raise ConfigError(
            f"export {head_id!r}: expected a head of profile {profile.name}, {heads[0].id} to {heads[-1].id}"
        )
    stages = (SAMPLE, RENDER, MESH)
    keys = head_keys(stages, head, {stage.name: stage.sections(profile) for stage in stages})
    store = ArtifactStore(find_run(place, profile.name).store)
    missing = [stage.name for stage in (RENDER, MESH) if not store.has(stage.name, keys[stage.name])]
    if missing:
        raise ConfigError(
            f"export {head_id}: expected its artifacts {' and '.join(missing)} in {store.root}, found none for these "
            "parameters (not made yet, or the screen dropped the head); spinmeround build makes them"
        )
    return export_head(store, keys, profile.views.cameras(), target)
