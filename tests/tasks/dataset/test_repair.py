"""Repair restores a damaged dataset to its digest, from intact artifacts or from seeds."""

import json
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, verify
from spinmeround.storage.dataset import publish as publish_heads
from spinmeround.storage.manifests import record_files
from spinmeround.tasks.dataset.publish import publish
from spinmeround.tasks.dataset.repair import HeadSections, repair
from spinmeround.tasks.heads.embed import EMBED, EmbedParams
from spinmeround.tasks.heads.mesh import MESH
from spinmeround.tasks.heads.normals import NORMALS, NormalsParams
from spinmeround.tasks.heads.render import RENDER, RenderParams
from spinmeround.tasks.heads.sample import SAMPLE, SampleParams
from spinmeround.tasks.stage import Head, head_keys, make_head
from tests.support.heads import flip_bit, write_heads
from tests.support.weights import write_recognition

STAGES = (SAMPLE, RENDER, MESH, NORMALS, EMBED)
HEADS = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    grid = ViewGrid(azimuths=4, elevations_deg=(0.0,))
    return HeadSections(
        generator=GeneratorConfig(name="tests.support.tiny:make"),
        views=grid,
        sample=SampleParams(resolution=16, previews=grid),
        render=RenderParams(resolution=16),
        mesh=MeshParams(resolution=24),
        normals=NormalsParams(),
        embed=EmbedParams(recognition=str(write_recognition(tmp_path_factory.mktemp("weights") / "recognition.onnx"))),
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, sections):
    """A run of three small heads, shared by all tests: do not change it."""
    run = tmp_path_factory.mktemp("pristine") / "run"
    store = ArtifactStore(run / "store")
    read = {stage.name: stage.sections(sections) for stage in STAGES}
    keys = {head.id: head_keys(STAGES, head, read) for head in HEADS}
    for stage, head in product(STAGES, HEADS):
        inputs = {name: keys[head.id][name] for name in stage.inputs}
        make_head(store, stage, head, read[stage.name], inputs)
    attributes = {"parameters": sections.model_dump(mode="json")}
    cameras = sections.views.cameras()
    return run, publish(store, HEADS, keys, cameras, attributes, run / "datasets")


@pytest.fixture
def built(tmp_path, pristine):
    """A copy of the run that keeps its hard links: store, dataset and digest."""
    run, info = pristine
    subprocess.run(["cp", "-a", run, tmp_path / "run"], check=True)
    return ArtifactStore(tmp_path / "run" / "store"), tmp_path / "run" / "datasets" / info.path.name, info.digest


def repaired(store: ArtifactStore, path: Path, digest: str) -> list[str]:
    """Repair, check that no problem is left and the digest is the same; returns the heads that were needed."""
    needed: list[str] = []
    found = repair(path, store, None, needed.append)
    assert (found.left, found.reasons) == ((), ())
    assert verify(path) == []
    assert HeadDataset.open(path).digest == digest
    return needed


def test_pixels_are_stored_once(built):
    """The dataset's shards are hard links of the files in the artifacts of render and normals."""
    store, path, _ = built
    for array, stage in (("rgb", "render"), ("mask", "render"), ("normals", "normals")):
        file = "c.0.0.0.0" if array == "mask" else "c.0.0.0.0.0"
        shard = (path / array / file).stat()
        assert shard.st_nlink == 2
        assert shard.st_ino in {each.stat().st_ino for each in (store.root / stage).glob(f"*/*/{array}.chunk")}


@pytest.mark.parametrize(
    "file",
    ["rgb/c.1.0.0.0.0", "mask/c.1.0.0.0", "normals/c.1.0.0.0.0", "identity_views/c.1.0.0"],
)
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_file_of_one_head_is_restored_from_its_artifacts(built, file, damage):
    """Only the artifacts of the damaged head are needed, and no other file of the dataset is touched."""
    store, path, digest = built
    others = {each: each.stat().st_mtime_ns for each in path.rglob("*") if each.is_file() and each != path / file}
    flip_bit(path / file) if damage == "flipped" else (path / file).unlink()
    assert repaired(store, path, digest) == ["tiny-000001"]
    assert {each: each.stat().st_mtime_ns for each in others} == others


def test_a_damaged_artifact_is_remade(built):
    """A flipped bit in a shared file damages artifact and dataset: the head is rendered again."""
    store, path, digest = built
    shard = path / "rgb/c.2.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 16
    shard.write_bytes(data)
    assert repaired(store, path, digest) == ["tiny-000002"]
    assert len(list((store.root / "corrupt").iterdir())) == 1


@pytest.mark.parametrize("file", ["cam2world/c.0.0.0.0", "seed/c.0", "azimuth/c.0", "rgb/zarr.json"])
def test_shared_files_are_rebuilt(built, file):
    """Files that belong to all heads, such as the metadata of an array, are rebuilt from the artifacts of all heads."""
    store, path, digest = built
    flip_bit(path / file, 0.9)
    assert repaired(store, path, digest) == [head.id for head in HEADS]


def test_without_a_store_heads_are_made_from_seeds(built, tmp_path):
    """A dataset without its store records how its heads were made, which suffices."""
    _, path, digest = built
    copied = Path(shutil.copytree(path, tmp_path / "elsewhere" / "heads.zarr"))
    (copied / "normals/c.0.0.0.0.0").unlink()
    assert repaired(ArtifactStore(tmp_path / "new"), copied, digest) == ["tiny-000000"]


def test_unknown_files_are_moved_aside(built):
    """A file that does not belong to the dataset is moved next to it and kept."""
    store, path, _ = built
    (path / "rgb" / "notes.txt").write_text("mine")
    found = repair(path, store, None)
    assert found.left == ()
    assert [moved.read_text() for moved in found.aside] == ["mine"]


def test_files_with_other_bytes_are_rejected(built, sections):
    """Another profile makes other bytes: nothing is replaced, and the result has the reason and the problem."""
    store, path, _ = built
    (path / "rgb/c.1.0.0.0.0").unlink()
    found = repair(path, store, sections.model_copy(update={"render": RenderParams(resolution=12)}))
    assert [problem.array for problem in found.left] == ["rgb"]
    assert "expected SHA-256" in found.reasons[0]
    assert not (path / "rgb/c.1.0.0.0.0").exists()


def test_damaged_group_metadata_are_not_guessed(built):
    """Without the metadata of the group nothing is touched, and the result says what to do."""
    store, path, _ = built
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"]["licence"] = "mine now"
    (path / "zarr.json").write_text(json.dumps(group))
    before = record_files(path)
    found = repair(path, store, None)
    assert found.left
    assert "build it again" in found.reasons[0]
    assert record_files(path) == before


def test_datasets_without_parameters_say_so(tmp_path):
    """A dataset that does not record how it was made needs its profile."""
    path = publish_heads(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), {}).path
    (path / "rgb/c.1.0.0.0.0").unlink()
    found = repair(path, ArtifactStore(tmp_path / "store"), None)
    assert "--profile" in found.reasons[0]
    assert len(found.left) == 1
