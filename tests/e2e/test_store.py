"""Builds and their store: on an S3 server, and during garbage collection."""

import shutil
import threading
from pathlib import Path

import pytest

from spinmeround.storage.artifacts import ArtifactStore, find_garbage, remove_garbage
from spinmeround.storage.dataset import HeadDataset, verify
from spinmeround.tasks.heads.registry import DATASET_STAGES
from tests.e2e.runs import build, counts
from tests.support.s3 import BUCKET, S3Server

STAGES = [stage.name for stage in DATASET_STAGES]
pytestmark = pytest.mark.usefixtures("server")


def contents(store: ArtifactStore, stage: str) -> dict[str, dict[str, bytes]]:
    """The files of all artifacts of a stage, by key and name."""
    artifacts = [store.verify(stage, entry.key) for entry in store.backend.entries(stage)]
    return {
        found.manifest.key: {name: (found.path / name).read_bytes() for name in found.manifest.files}
        for found in artifacts
    }


def test_the_same_dataset_from_an_object_store(
    tiny, tmp_path: Path, s3: S3Server, s3_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local folder and an object store hold the same bytes under the same keys and give the same dataset.

    Another machine with an empty cache reuses every artifact.
    """
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPINMEROUND_CACHE", str(tmp_path / "cache"))
    url = f"s3://{BUCKET}/{s3_prefix}"
    profile = tiny(plan={"heads": 2})
    local = build(profile, tmp_path / "local")
    first = build(profile, tmp_path / "first", store=url)
    assert counts(first) == dict.fromkeys(STAGES, (2, 0)) | {"publish": (1, 0)}
    assert not (tmp_path / "first" / "tiny" / "store").exists()
    for stage in STAGES:
        kept = ArtifactStore(tmp_path / "local" / "tiny" / "store")
        assert contents(ArtifactStore(url), stage) == contents(kept, stage)
    assert first["dataset"]["digest"] == local["dataset"]["digest"]
    assert verify(Path(first["dataset"]["path"])) == []
    assert first["dataset"]["url"] == f"{url}/datasets/{local['dataset']['digest'][:12]}.zarr"
    assert HeadDataset.open(first["dataset"]["url"]).digest == local["dataset"]["digest"]

    monkeypatch.setenv("SPINMEROUND_CACHE", str(tmp_path / "another"))
    second = build(profile, tmp_path / "second", store=url)
    assert counts(second) == dict.fromkeys(STAGES, (0, 2)) | {"publish": (1, 0)}
    assert second["dataset"]["digest"] == local["dataset"]["digest"]


@pytest.mark.slow
def test_garbage_collection_during_a_build(tiny, tmp_path: Path) -> None:
    """Without a grace period, gc runs repeatedly while a build needs artifacts that were garbage before it started.

    The build has the undisturbed digest, and a final gc leaves exactly the artifacts that it uses.
    """
    before = build(tiny(), tmp_path)
    build(tiny(mesh__level=9.0), tmp_path)
    shutil.rmtree(tmp_path / "tiny" / "datasets")  # so that no dataset protects artifacts
    for summary in [tmp_path / "tiny" / "summary.json", *(tmp_path / "tiny" / "summaries").iterdir()]:
        summary.write_text("{}")  # as of a run that never published
    store, ended, removed = ArtifactStore(tmp_path / "tiny" / "store"), threading.Event(), []

    def clean() -> None:
        while not ended.is_set():
            removed.extend(remove_garbage(store, find_garbage(store, 0.0))[0])

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        after = build(tiny(), tmp_path)
    finally:
        ended.set()
        cleaner.join()
    assert after["dataset"]["digest"] == before["dataset"]["digest"]
    assert after["heads"]["quarantined"] == 0
    assert verify(Path(after["dataset"]["path"])) == []
    assert {item.stage for item in removed} >= {"mesh", "normals"}
    remove_garbage(store, find_garbage(store, 0.0))
    assert {entry.stage: 0 for entry in store.backend.entries()}.keys() == {*STAGES, "publish"}
    assert len(list(store.backend.entries())) == 4 * len(STAGES) + 1
