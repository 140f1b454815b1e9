"""Repair brings a damaged dataset back to its digest, from artifacts where they are whole, else from seeds."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, HeadEntry, publish, verify
from spinmeround.storage.manifests import record_files
from spinmeround.tasks.dataset.repair import repair
from spinmeround.tasks.heads.embed import EMBED, EmbedParams
from spinmeround.tasks.heads.mesh import MESH
from spinmeround.tasks.heads.normals import NORMALS, NormalsParams
from spinmeround.tasks.heads.render import RENDER, RenderParams
from spinmeround.tasks.heads.sample import SAMPLE, SampleParams
from spinmeround.tasks.stage import Head, head_keys, make_head
from spinmeround.tasks.write import WRITE
from tests.support.heads import flip_bit, write_heads
from tests.support.weights import write_recognition

STAGES = (SAMPLE, RENDER, MESH, NORMALS, EMBED, WRITE)
HEADS = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    grid = ViewGrid(azimuths=4, elevations_deg=(0.0,))
    return {
        "generator": GeneratorConfig(name="tests.support.tiny:make"),
        "views": grid,
        "sample": SampleParams(resolution=16, previews=grid),
        "render": RenderParams(resolution=16),
        "mesh": MeshParams(resolution=24),
        "normals": NormalsParams(),
        "embed": EmbedParams(
            recognition=str(write_recognition(tmp_path_factory.mktemp("weights") / "recognition.onnx"))
        ),
    }


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, sections):
    """A run of three small heads; not to be changed."""
    run = tmp_path_factory.mktemp("pristine") / "run"
    store = ArtifactStore(run / "store")
    read = {stage.name: {name: sections[name] for name in stage.reads} for stage in STAGES}
    entries = []
    for head in HEADS:
        keys = head_keys(STAGES, head, read)
        for stage in STAGES:
            make_head(store, stage, head, read[stage.name], {name: keys[name] for name in stage.inputs})
        entries.append(HeadEntry(id=head.id, folder=store.path("write", keys["write"])))
    parameters = {name: section.model_dump(mode="json") for name, section in sections.items()}
    return run, publish(run / "datasets", entries, {"parameters": parameters})


@pytest.fixture
def built(tmp_path, pristine):
    """A copy of it, in which files share their bytes as they do there: its store, its dataset, and the digest."""
    run, info = pristine
    subprocess.run(["cp", "-a", run, tmp_path / "run"], check=True)
    return ArtifactStore(tmp_path / "run" / "store"), tmp_path / "run" / "datasets" / info.path.name, info.digest


def mended(store: ArtifactStore, path: Path, digest: str) -> list[str]:
    """Repair, and see that nothing is left and the digest is the same; the heads that were looked up."""
    told: list[str] = []
    found = repair(path, store, None, told.append)
    assert (found.left, found.reasons) == ((), ())
    assert verify(path) == []
    assert HeadDataset.open(path).digest == digest
    return told


def test_pixels_lie_on_the_disk_once(built):
    """The dataset's shards are the files of the stages that drew them, and of the written head."""
    store, path, _ = built
    for array, stage in (("rgb", "render"), ("mask", "render"), ("normals", "normals")):
        file = "c/0/0/0/0" if array == "mask" else "c/0/0/0/0/0"
        shard = (path / array / file).stat()
        assert shard.st_nlink == 3
        assert shard.st_ino in {each.stat().st_ino for each in (store.root / stage).glob(f"*/*/{array}/{file}")}
        assert shard.st_ino in {each.stat().st_ino for each in (store.root / "write").glob(f"*/*/{array}/{file}")}


@pytest.mark.parametrize(
    "file",
    ["rgb/c/1/0/0/0/0", "mask/c/1/0/0/0", "normals/c/1/0/0/0/0", "identity_views/c/1/0/0"],
)
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_heads_file_comes_back_from_its_artifacts(built, file, damage):
    """Only the damaged head is looked up, and no other file of the dataset is touched."""
    store, path, digest = built
    others = {each: each.stat().st_mtime_ns for each in path.rglob("*") if each.is_file() and each != path / file}
    flip_bit(path / file) if damage == "flipped" else (path / file).unlink()
    assert mended(store, path, digest) == ["tiny-000001"]
    assert {each: each.stat().st_mtime_ns for each in others} == others


def test_damage_in_the_artifacts_too_is_made_anew(built):
    """A bit that flips in the one copy on the disk damages artifacts and dataset: the head is drawn again."""
    store, path, digest = built
    shard = path / "rgb/c/2/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 16
    shard.write_bytes(data)
    assert mended(store, path, digest) == ["tiny-000002"]
    assert len(list((store.root / "corrupt").iterdir())) == 2


@pytest.mark.parametrize("file", ["cam2world/c/0/0/0/0", "seed/c/0", "azimuth/c/0", "rgb/zarr.json"])
def test_shared_files_are_joined_anew(built, file):
    """Files of all heads, metadata of an array among them, come back from all heads' artifacts."""
    store, path, digest = built
    flip_bit(path / file, 0.9)
    assert mended(store, path, digest) == [head.id for head in HEADS]


def test_without_a_store_heads_are_made_from_seeds(built, tmp_path):
    """A dataset that was copied elsewhere says how its heads were made; that is enough."""
    _, path, digest = built
    copied = Path(shutil.copytree(path, tmp_path / "elsewhere" / "heads.zarr"))
    (copied / "normals/c/0/0/0/0/0").unlink()
    assert mended(ArtifactStore(tmp_path / "new"), copied, digest) == ["tiny-000000"]


def test_strangers_are_moved_and_kept(built):
    """What is no part of the dataset goes beside it."""
    store, path, _ = built
    (path / "rgb" / "notes.txt").write_text("mine")
    found = repair(path, store, None, print)
    assert found.left == ()
    assert [moved.read_text() for moved in found.aside] == ["mine"]


def test_other_parameters_are_not_put_in(built, sections):
    """What is made with another profile has other bytes: the reason is told, the damage stays and is told."""
    store, path, _ = built
    (path / "rgb/c/1/0/0/0/0").unlink()
    other = {**sections, "render": RenderParams(resolution=12)}
    found = repair(path, store, other, print)
    assert [problem.array for problem in found.left] == ["rgb"]
    assert "expected SHA-256" in found.reasons[0]
    assert not (path / "rgb/c/1/0/0/0/0").exists()


def test_damaged_group_metadata_are_not_guessed(built):
    """Without the dataset's own metadata nothing is touched, and what to do is told."""
    store, path, _ = built
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"]["licence"] = "mine now"
    (path / "zarr.json").write_text(json.dumps(group))
    before = record_files(path)
    found = repair(path, store, None, print)
    assert found.left
    assert "build it again" in found.reasons[0]
    assert record_files(path) == before


def test_datasets_without_parameters_say_so(tmp_path):
    """A dataset that does not state how it was made asks for its profile."""
    path = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), {}).path
    (path / "rgb/c/1/0/0/0/0").unlink()
    found = repair(path, ArtifactStore(tmp_path / "store"), None, print)
    assert "--profile" in found.reasons[0]
    assert len(found.left) == 1
