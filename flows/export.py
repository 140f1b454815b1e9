"""`spinmeround export`: a head of a run as a mesh file with colours."""

from pathlib import Path

from flows.options import RunOptions
from flows.run_folder import find_run
from storage.artifacts import ArtifactStore
from storage.errors import ConfigError, mistakes
from storage.records import TriangleMesh
from tasks.export import check_target, export_head
from tasks.generators import generator_of
from tasks.mesh import MESH
from tasks.plan import plan_heads
from tasks.render import RENDER
from tasks.sample import SAMPLE
from tasks.stage import head_keys


def export_from_run(options: RunOptions, head_id: str, target: Path, *, force: bool) -> TriangleMesh:
    """Writes the mesh of a head whose stages `mesh` and `render` have been run; returns it.

    Raises ConfigError for a run that is not there, a head that the profile does not ask for or that is not made,
    and an impossible target.
    """
    check_target(target, force=force)
    profile, place = options.load()
    with mistakes("generator: "):
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
