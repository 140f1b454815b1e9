"""Arbitrary manifests are read correctly or refused with an error of this package."""

import json
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import read_manifest
from spinmeround.storage.errors import CorruptArtifact, DatasetError
from tests.support.junk import JSON, NAMES

KEY = artifact_key("mesh", 1, {"level": 10.0}, {"sample": "a" * 64})
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def stored(root: Path) -> tuple[ArtifactStore, Path]:
    """A store with one artifact, and the path of its manifest."""
    store = ArtifactStore(root)
    if not store.has("mesh", KEY):
        with store.commit(
            "mesh", KEY, version=1, params={"level": 10.0}, inputs={"sample": "a" * 64}, weights="", subject="x"
        ) as out:
            (out / "mesh.npz").write_bytes(b"payload")
    return store, store.path("mesh", KEY) / "manifest.json"


def mutated(good: dict[str, Any], records: str) -> st.SearchStrategy[bytes]:
    """The manifest with a field, or a nested one, replaced, removed or added; or arbitrary bytes."""
    changed = st.builds(lambda name, value: {**good, name: value}, st.sampled_from([*good, "extra"]), JSON)
    dropped = st.builds(
        lambda name: {key: value for key, value in good.items() if key != name}, st.sampled_from([*good])
    )
    record = good[records][next(iter(good[records]))]
    files = st.builds(
        lambda name, field, value: {**good, records: {name: {**record, field: value}}},
        NAMES,
        st.sampled_from([*record, "extra"]),
        JSON,
    )
    text = st.one_of(changed, dropped, files).map(lambda value: json.dumps(value).encode())
    cut = st.builds(lambda data, end: data[:end], text, st.integers(0, 400))
    return st.one_of(text, cut, st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()))


def read_dataset(root: Path, data: bytes) -> None:
    """Read a dataset with these bytes as its manifest: only errors of this package, no names outside the folder."""
    (root / "manifest.json").write_bytes(data)
    try:
        found = read_manifest(root)
    except DatasetError:
        return
    assert not any(name.startswith("/") or ".." in name.split("/") for name in found.listed)


def fuzz(root: Path, how: settings) -> None:
    """Read many manifests, of both versions; any error of another kind fails."""
    record = {"size": 1, "sha256": "0" * 64}
    first = {"schema_version": 1, "digest": "0" * 64, "files": {"zarr.json": record}}
    second = {"schema_version": 2, "digest": "0" * 64, "parts": {"listing/shared.txt": record}}

    @how
    @given(mutated(first, "files") | mutated(second, "parts"))
    def one(data: bytes) -> None:
        read_dataset(root, data)

    one()


def test_any_manifest_of_a_dataset(tmp_path: Path) -> None:
    """A few hundred manifests, broken in many ways, raise no other errors."""
    fuzz(tmp_path, quick)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_manifests_of_datasets_for_minutes(tmp_path: Path) -> None:
    """The same for two minutes."""
    began, thorough = monotonic(), settings(quick, max_examples=2000, database=None)
    while monotonic() - began < 120:
        fuzz(tmp_path, thorough)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"/etc/passwd": {"size": 1}}, "plain relative path"),
        ({"../../../x": {"size": 1}}, "plain relative path"),
        ({"a/../../x": {"size": 1}}, "plain relative path"),
        ({"mesh.npz": {"size": 2**70}}, f"expected {2**70} bytes, found 7"),
        ({"mesh.npz": {"size": -1}}, "greater than or equal to 0"),
        ({"mesh.npz": {"size": "huge"}}, "valid integer"),
        ({"mesh.npz": {"size": 7, "sha256": "0" * 64, "mode": 0o777}}, r"mode: unknown field"),
        ({"x" * 5000: {"size": 1}}, "is missing|expected at most 255 bytes"),
        ([], "files: input should be (an object|a valid dictionary)"),
    ],
    ids=["absolute", "parent", "inner parent", "gigantic", "negative", "type", "extra", "long name", "list"],
)
def test_hostile_manifests_are_refused(tmp_path: Path, files: Any, problem: str) -> None:
    """A manifest with impossible values or paths outside its folder is damaged: reported, moved aside, not followed."""
    store, manifest = stored(tmp_path)
    found = json.loads(manifest.read_text())
    del found["checksum"]  # as of an earlier version, so that the fields themselves are checked
    record = found["files"]["mesh.npz"]
    found["files"] = {name: {**record, **given} for name, given in files.items()} if isinstance(files, dict) else files
    manifest.write_text(json.dumps(found))
    with pytest.raises(CorruptArtifact, match=problem):
        store.open("mesh", KEY)
    assert [path.parent.name for path in (tmp_path / "corrupt").rglob("mesh.npz")] != []


def test_an_oversized_manifest_is_not_read(tmp_path: Path) -> None:
    """A sparse file of a terabyte in place of the manifest is reported at once."""
    store, manifest = stored(tmp_path)
    with manifest.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(CorruptArtifact, match="expected at most"):
        store.open("mesh", KEY)
