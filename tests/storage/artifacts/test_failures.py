"""Failure records: written, listed, cleared."""

from spinmeround.storage.artifacts import ArtifactStore, artifact_key


def test_failures_are_kept_until_cleared(any_store: ArtifactStore) -> None:
    """Other runs see recorded failures, sorted by stage and head; clearing takes their keys."""
    keys = [artifact_key(stage, 1, {}, {}) for stage in ("mesh", "embed")]
    any_store.record_failure("mesh", keys[0], "procedural-000002", "no face", "Traceback", 3)
    any_store.record_failure("embed", keys[1], "procedural-000001", "no face", "Traceback", 3)
    again = ArtifactStore(any_store.root)
    found = again.failure("mesh", keys[0])
    assert found is not None
    assert (found.subject, found.reason, found.traceback, found.attempts) == (
        "procedural-000002",
        "no face",
        "Traceback",
        3,
    )
    assert [failure.stage for failure in again.failures()] == ["embed", "mesh"]
    again.clear_failures([("mesh", keys[0]), ("write", keys[0])])
    assert [failure.stage for failure in again.failures()] == ["embed"]
    assert again.failure("mesh", keys[0]) is None


def test_unreadable_failures_are_ignored(any_store: ArtifactStore) -> None:
    """A head with a damaged failure record is tried again."""
    key = artifact_key("mesh", 1, {}, {})
    any_store.record_failure("mesh", key, "h", "why", "", 1)
    any_store.backend.blobs.put(f"failures/mesh/{key}.json", b"{")
    assert any_store.failure("mesh", key) is None
    assert any_store.failures() == []
