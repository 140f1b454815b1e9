"""A build whose artifacts live in an object store, on a real S3-speaking server."""

from pathlib import Path

import pytest

from storage.artifacts import ArtifactStore
from storage.dataset import verify
from tasks.stages import DATASET_STAGES
from tests.e2e.runs import build, counts
from tests.support.s3 import BUCKET, S3Server

STAGES = [stage.name for stage in DATASET_STAGES]
pytestmark = pytest.mark.usefixtures("server")


def contents(store: ArtifactStore, stage: str) -> dict[str, dict[str, bytes]]:
    """All files of all artifacts of a stage, by key and name."""
    artifacts = [store.verify(stage, entry.key) for entry in store.backend.entries(stage)]
    return {
        found.manifest.key: {name: (found.path / name).read_bytes() for name in found.manifest.files}
        for found in artifacts
    }


def test_the_same_dataset_from_an_object_store(
    tiny, tmp_path: Path, s3: S3Server, s3_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local folder and object store hold the same bytes under the same keys and give the same dataset.

    Another machine, with an empty cache, reuses everything.
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

    monkeypatch.setenv("SPINMEROUND_CACHE", str(tmp_path / "another"))
    second = build(profile, tmp_path / "second", store=url)
    assert counts(second) == dict.fromkeys(STAGES, (0, 2)) | {"publish": (1, 0)}
    assert second["dataset"]["digest"] == local["dataset"]["digest"]
