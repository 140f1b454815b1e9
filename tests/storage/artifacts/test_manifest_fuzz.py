"""Arbitrary manifests are read or refused with an error of this package."""

import json
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinmeround.storage.artifacts import ArtifactStore, Manifest, artifact_key, parse_manifest
from spinmeround.storage.errors import SpinMeRoundError
from tests.support.artifacts import key_of, put

KEY = key_of("mesh", 1)
VALID = json.loads(
    Manifest(
        stage="mesh",
        key=KEY,
        version=1,
        params={"number": 1},
        inputs={},
        weights="",
        subject="h",
        files={"a.bin": {"size": 6, "sha256": "0" * 64}},
        code_version="1",
        duration_s=0.0,
        created="",
    ).model_dump_json()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=300), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries({"size": st.integers(), "sha256": st.just("0" * 64) | st.text()})
FILES = st.dictionaries(
    st.text() | st.text("./\\a\0", max_size=900) | st.sampled_from(["/etc/passwd", "../x", "a/../../b", "C:\\x", "~"]),
    RECORDS | JSON,
    max_size=3,
)


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Bytes, JSON of any kind, or a valid manifest with fields changed, dropped and added."""
    kind = draw(st.sampled_from(["bytes", "json", "changed", "changed", "files"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "json":
        return json.dumps(draw(JSON)).encode()
    found: dict[str, Any] = dict(VALID)
    if kind == "files":
        found["files"] = draw(FILES)
    else:
        for name in draw(st.lists(st.sampled_from([*VALID, "other"]), max_size=3)):
            found[name] = draw(JSON)
        for name in draw(st.lists(st.sampled_from(list(VALID)), max_size=1)):
            found.pop(name, None)
    return json.dumps(found).encode()


def check(store: ArtifactStore, data: bytes) -> None:
    """The manifest is valid, or the artifact is refused and can be made again."""
    with patch("os.fsync"):  # tests need not survive a power cut
        key = put(store, "mesh", 1)
    (store.path("mesh", key) / "manifest.json").write_bytes(data)
    try:
        found = store.verify("mesh", key).manifest
    except SpinMeRoundError:
        if store.has("mesh", key):  # an artifact of a newer version stays
            store.set_aside("mesh", key)
    else:
        assert found.key == artifact_key("mesh", found.version, found.params, found.inputs, found.weights) == key
        assert all(math.isfinite(value) for value in [found.duration_s])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=manifests())
def test_fuzzed_manifests(tmp_path: Path, data: bytes) -> None:
    """Random manifests raise no error of any other kind."""
    check(ArtifactStore(tmp_path / "store"), data)


@pytest.mark.slow
@settings(max_examples=4_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=manifests())
def test_fuzzed_manifests_for_long(tmp_path: Path, data: bytes) -> None:
    """The same for minutes."""
    check(ArtifactStore(tmp_path / "store"), data)


def test_the_unchanged_manifest_is_valid() -> None:
    """The manifest that the fuzzing changes is accepted, so refusals come from the changes."""
    assert parse_manifest(json.dumps(VALID).encode(), "mesh", KEY).files["a.bin"].size == 6
