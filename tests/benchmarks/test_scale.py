"""What a head takes in the store and in a dataset, counted on a real build of tiny heads through all stages."""

from pathlib import Path

from spinmeround.flows.profile import load_profile
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import verify
from spinmeround.tasks.dataset.publish import publish
from spinmeround.tasks.heads.encode import publish_latents
from spinmeround.tasks.heads.plan import plan_heads
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.stage import bound_keys
from tests.benchmarks._builds import write_profile
from tests.support.inodes import dataset_inodes, store_inodes

HEADS = 3
LIMIT = 40


def test_a_head_takes_at_most_forty_inodes(tmp_path: Path) -> None:
    """All stages together stay below the limit in the store, and a dataset adds one file a head and no folder."""
    profile, store = load_profile(str(write_profile(tmp_path, HEADS)), []), ArtifactStore(tmp_path / "store")
    heads = plan_heads("ellipsoids", profile.plan)
    stages = [stage.bound(stage.sections(profile)) for stage in HEAD_STAGES]
    keys = {head.id: bound_keys(stages, head) for head in heads}
    for head in heads:
        for bound in stages:
            bound.make(store, head, {name: keys[head.id][name] for name in bound.stage.inputs})
    counted = store_inodes(tmp_path / "store")
    assert counted.artifacts == {stage.name: HEADS for stage in HEAD_STAGES}
    assert sum(counted.inodes.values()) <= LIMIT * HEADS
    published = publish(store, heads, keys, profile.views.cameras(), {}, tmp_path / "datasets")
    latents = {head.id: store.path("encode", keys[head.id]["encode"]) for head in heads}
    publish_latents(published.path, latents, profile.encode)
    assert verify(published.path) == []
    own, links = dataset_inodes(published.path)
    assert links == 5 * HEADS
    assert own == _of_no_heads(published.path) + HEADS


def _of_no_heads(dataset: Path) -> int:
    """Files and folders that a dataset with latents has for up to 256 heads."""
    arrays = [path.parent for path in dataset.rglob("zarr.json")]
    listing = 2 * (1 + 2 + 1)  # a folder with two parts, and the manifest, of the dataset and of its latents
    chunks = len([path for path in dataset.glob("*/c.*") if path.parent.name in SMALL])
    return 2 * len(arrays) + chunks + listing


SMALL = ("cam2world", "intrinsics", "azimuth", "elevation", "identity", "seed", "status")
