"""The artifact store without faults of the environment, and what it refuses."""

import json
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.storage.artifacts import SCHEMA_VERSION, ArtifactStore, Outcome, artifact_key
from spinmeround.storage.errors import CorruptArtifact, LockHeld, StoreError
from tests.support.processes import start, wait

ARGUMENTS: dict[str, Any] = {"version": 1, "params": {"level": 10.0, "sizes": (1, 2)}, "inputs": {"sample": "a" * 64}}


def commit(store: ArtifactStore, stage: str = "mesh", payload: bytes = b"payload", **changes: Any) -> str:
    arguments = {**ARGUMENTS, **changes}
    key = artifact_key(stage, **arguments)
    with store.commit(stage, key, **arguments, weights="", subject="procedural-000001") as out:
        (out / "mesh.npz").write_bytes(payload)
        (out / "previews").mkdir()
        (out / "previews" / "0.png").write_bytes(b"picture")
    return key


def test_round_trip(store: ArtifactStore) -> None:
    """A committed artifact is found complete, with everything that it was made from."""
    key = commit(store)
    artifact = store.verify("mesh", key)
    assert store.has("mesh", key)
    assert (artifact.path / "mesh.npz").read_bytes() == b"payload"
    assert artifact.path == store.path("mesh", key) == store.root / "mesh" / key[:2] / key
    assert set(artifact.manifest.files) == {"mesh.npz", "previews/0.png"}
    assert artifact.manifest.params == {"level": 10.0, "sizes": [1, 2]}
    assert artifact.manifest.subject == "procedural-000001"
    assert artifact.manifest.code_version
    assert list((store.root / "tmp").iterdir()) == []


@given(st.permutations(["a", "b", "c"]))
def test_key_ignores_order(names: list[str]) -> None:
    """Keys do not depend on the order of parameters or inputs."""
    params = {name: ord(name) for name in names}
    assert artifact_key("mesh", 1, params, dict.fromkeys(names, "x")) == artifact_key(
        "mesh", 1, dict(sorted(params.items())), dict.fromkeys(sorted(names), "x")
    )


@pytest.mark.parametrize(
    "changed",
    [{"stage": "normals"}, {"version": 2}, {"params": {"level": 9.0}}, {"inputs": {"render": "x"}}, {"weights": "w"}],
    ids=lambda changed: next(iter(changed)),
)
def test_key_changes_with_each_part(changed: dict[str, Any]) -> None:
    """Stage, version, parameters, inputs and weights each change the key."""
    parts = {"stage": "mesh", "version": 1, "params": {"level": 10.0}, "inputs": {"sample": "x"}, "weights": ""}
    assert artifact_key(**parts) != artifact_key(**{**parts, **changed})


def test_key_is_stable() -> None:
    """The key of known content is a known value: a change here would invalidate every store."""
    key = artifact_key("mesh", 1, {"level": 10.0}, {"sample": "x"}, "w")
    assert key == "1f79f1720214b43b7a9275e9d5f3dece5e9386b37c0d64c650fac459e61c207e"


def test_absent_artifact_names_its_stage(any_store: ArtifactStore) -> None:
    """Opening an absent artifact names the stage that makes it."""
    key = artifact_key("mesh", **ARGUMENTS)
    assert not any_store.has("mesh", key)
    for access in (any_store.path, any_store.open, any_store.verify):
        with pytest.raises(StoreError, match="run the stage mesh"):
            access("mesh", key)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failed_commit_leaves_nothing(any_store: ArtifactStore, error: type[BaseException]) -> None:
    """An exception of any kind inside the block leaves neither an artifact nor a temporary file."""
    key = artifact_key("mesh", **ARGUMENTS)

    def interrupted() -> None:
        with any_store.commit("mesh", key, **ARGUMENTS, weights="", subject="h") as out:
            (out / "mesh.npz").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert not any_store.has("mesh", key)
    assert list(any_store.backend.scratch.iterdir()) == []


def test_open_detects_a_truncated_payload(store: ArtifactStore) -> None:
    """A file of another size is reported, moved aside with its bytes, and can be made again."""
    key = commit(store)
    (store.path("mesh", key) / "mesh.npz").write_bytes(b"pay")
    with pytest.raises(CorruptArtifact, match=r"mesh\.npz: expected 7 bytes, found 3"):
        store.open("mesh", key)
    assert not store.has("mesh", key)
    (moved,) = (store.root / "corrupt").iterdir()
    assert (moved / "mesh.npz").read_bytes() == b"pay"
    assert commit(store) == key
    store.verify("mesh", key)


def test_verify_detects_a_changed_byte(store: ArtifactStore) -> None:
    """`open` only compares sizes; `verify` also detects a changed byte."""
    key = commit(store)
    (store.path("mesh", key) / "mesh.npz").write_bytes(b"paYload")
    store.open("mesh", key)
    with pytest.raises(CorruptArtifact, match="SHA-256"):
        store.verify("mesh", key)
    assert not store.has("mesh", key)


def _drop_file(folder: Path) -> None:
    (folder / "mesh.npz").unlink()


def _cut_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def _edit_parameters(folder: Path) -> None:
    _edit(folder, lambda manifest: manifest["params"].update(level=11.0))


def _edit_name(name: str) -> Any:
    return lambda folder: _edit(
        folder, lambda manifest: manifest["files"].update({name: manifest["files"]["mesh.npz"]})
    )


def _infinite_parameter(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("10.0", "1e999"))


def _link_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


def _link_out(folder: Path) -> None:
    (folder / "mesh.npz").unlink()
    (folder.parent / "outside").write_bytes(b"payload")
    (folder / "mesh.npz").symlink_to(folder.parent / "outside")


def _edit(folder: Path, change: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]  # as of an earlier version, so that the fields themselves are checked
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_drop_file, id="missing file"),
        pytest.param(_cut_manifest, id="truncated manifest"),
        pytest.param(_edit_parameters, id="edited parameters"),
        pytest.param(_edit_name("/etc/passwd"), id="absolute path"),
        pytest.param(_edit_name("../../x"), id="parent path"),
        pytest.param(_link_out, id="link out of the root"),
        pytest.param(_link_manifest, id="manifest is a link"),
        pytest.param(_infinite_parameter, id="infinite parameter"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("[" * 100_000), id="deep nesting"),
        pytest.param(lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), id="no text"),
    ],
)
def test_damage_is_quarantined(store: ArtifactStore, damage: Any) -> None:
    """`open` reports any damage of payload or manifest and moves it aside; the artifact can be remade."""
    key = commit(store)
    damage(store.path("mesh", key))
    with pytest.raises(CorruptArtifact, match="run the stage mesh again"):
        store.open("mesh", key)
    assert not store.has("mesh", key)
    commit(store)
    store.verify("mesh", key)


def test_verify_detects_an_extra_file(store: ArtifactStore) -> None:
    """A file that the manifest does not list is reported."""
    key = commit(store)
    (store.path("mesh", key) / "extra").touch()
    with pytest.raises(CorruptArtifact, match="extra is not in the manifest"):
        store.verify("mesh", key)


def test_newer_manifest_is_refused_and_kept(store: ArtifactStore) -> None:
    """An artifact of a newer version of the software is left unchanged."""
    key = commit(store)
    _edit(store.path("mesh", key), lambda manifest: manifest.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(StoreError, match="newer version"):
        store.open("mesh", key)
    assert store.has("mesh", key)


def test_commit_refuses_a_foreign_key(any_store: ArtifactStore) -> None:
    """A key must match the given parameters, so that provenance is reliable."""
    with (
        pytest.raises(StoreError, match="expected the key of these parameters"),
        any_store.commit("mesh", "0" * 64, **ARGUMENTS, weights="", subject="h"),
    ):
        pass


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda out: None, id="nothing"),
        pytest.param(lambda out: (out / "manifest.json").write_text("{}"), id="own manifest"),
        pytest.param(lambda out: (out / "link").symlink_to("/etc/passwd"), id="link"),
    ],
)
def test_commit_refuses_invalid_payloads(any_store: ArtifactStore, make: Any) -> None:
    """A payload has files, no links, and no manifest of its own."""
    key = artifact_key("mesh", **ARGUMENTS)
    with (
        pytest.raises(StoreError, match="mesh/"),
        any_store.commit("mesh", key, **ARGUMENTS, weights="", subject="h") as out,
    ):
        make(out)
    assert not any_store.has("mesh", key)


@pytest.mark.parametrize(
    ("stage", "key"), [("tmp", "0" * 64), ("../x", "0" * 64), ("Mesh", "0" * 64), ("mesh", "../../x")]
)
def test_names_stay_in_the_root(any_store: ArtifactStore, stage: str, key: str) -> None:
    """Stage names and keys cannot point outside the root or collide with the store's own folders."""
    with pytest.raises(StoreError, match="expected"):
        any_store.has(stage, key)


def test_first_commit_wins(any_store: ArtifactStore) -> None:
    """Of two commits of the same artifact without the lock, the first stays."""
    key = commit(any_store, payload=b"first")
    assert commit(any_store, payload=b"second") == key
    assert (any_store.verify("mesh", key).path / "mesh.npz").read_bytes() == b"first"


def test_make_once_makes_then_reuses(any_store: ArtifactStore) -> None:
    """The first call makes the artifact, a second one does not call `make` at all."""
    key = artifact_key("mesh", **ARGUMENTS)
    outcomes = [
        any_store.make_once("mesh", key, partial(_write, data=data), **ARGUMENTS, weights="", subject="h")
        for data in (b"first", b"second")
    ]
    assert outcomes == ["made", "reused"]
    assert (any_store.verify("mesh", key).path / "mesh.npz").read_bytes() == b"first"


def test_make_once_leaves_nothing_after_an_error(any_store: ArtifactStore) -> None:
    """An error of `make` reaches the caller, and the artifact can be made afterwards: its lock is free."""
    key = artifact_key("mesh", **ARGUMENTS)

    def fail(out: Path) -> None:
        _write(out, b"half")
        raise RuntimeError("no face")

    with pytest.raises(RuntimeError, match="no face"):
        any_store.make_once("mesh", key, fail, **ARGUMENTS, weights="", subject="h")
    assert not any_store.has("mesh", key)
    make = partial(_write, data=b"payload")
    assert any_store.make_once("mesh", key, make, **ARGUMENTS, weights="", subject="h") == "made"


def test_of_racing_processes_one_makes(store: ArtifactStore, tmp_path: Path) -> None:
    """Several processes that start together make one artifact once, and all of them get it."""
    key = artifact_key("mesh", **ARGUMENTS)
    ready = tmp_path / "ready"

    def make(out: Path) -> None:
        (tmp_path / f"made-{os.getpid()}").touch()
        time.sleep(0.2)  # meanwhile the others wait for the lock
        _write(out, b"payload")

    def race() -> None:
        while not ready.exists():
            time.sleep(0.001)
        outcome = store.make_once("mesh", key, make, **ARGUMENTS, weights="", subject="h")
        (tmp_path / f"{outcome}-outcome-{os.getpid()}").touch()

    racers = [start(race) for _ in range(3)]
    ready.touch()
    assert [wait(racer) for racer in racers] == [0, 0, 0]
    assert len(list(tmp_path.glob("made-[0-9]*"))) == len(list(tmp_path.glob("made-outcome-*"))) == 1
    assert len(list(tmp_path.glob("reused-outcome-*"))) == 2
    store.verify("mesh", key)


def _write(out: Path, data: bytes) -> None:
    (out / "mesh.npz").write_bytes(data)


def test_folder_without_manifest_is_moved_aside(store: ArtifactStore) -> None:
    """An incomplete folder does not block the artifact's place."""
    key = artifact_key("mesh", **ARGUMENTS)
    (store.root / "mesh" / key[:2] / key).mkdir(parents=True)
    (store.root / "mesh" / key[:2] / key / "half").touch()
    assert commit(store) == key
    store.verify("mesh", key)


def test_lock_excludes_and_times_out(any_store: ArtifactStore) -> None:
    """One holder at a time, threads included; a waiter with a timeout names the lock file."""
    key = artifact_key("mesh", **ARGUMENTS)
    entered = threading.Event()

    def wait() -> None:
        with any_store.lock("mesh", key):
            entered.set()

    with any_store.lock("mesh", key):
        thread = threading.Thread(target=wait)
        thread.start()
        with (
            pytest.raises(StoreError, match="another process has held its lock"),
            any_store.lock("mesh", key, timeout_s=0.2),
        ):
            pass
        assert not entered.is_set()
    thread.join(timeout=10)
    assert entered.is_set()
    assert any_store.backend.blobs.names("locks") == []


def test_a_locked_artifact_can_be_passed_over(any_store: ArtifactStore) -> None:
    """A caller that does not wait gets LockHeld while another makes it; afterwards it is reused."""
    key, made = artifact_key("mesh", **ARGUMENTS), threading.Event()

    def make(patience_s: float | None = None) -> Outcome:
        return any_store.make_once(
            "mesh",
            key,
            lambda out: (out / "mesh.npz").write_bytes(b"mesh"),
            **ARGUMENTS,
            weights="",
            subject="head",
            patience_s=patience_s,
        )

    assert not any_store.locked("mesh", key)
    with any_store.lock("mesh", key):
        assert any_store.locked("mesh", key)
        with pytest.raises(LockHeld):
            make(patience_s=0.0)
        thread = threading.Thread(target=lambda: made.set() if make() == "made" else None)
        thread.start()
    thread.join(timeout=10)
    assert made.is_set()
    assert make(patience_s=0.0) == "reused"
    assert not any_store.locked("mesh", key)


def test_root_that_is_a_file(tmp_path: Path) -> None:
    """A file in place of the store's folder is refused."""
    (tmp_path / "store").touch()
    with pytest.raises(StoreError, match="expected a folder, found a file"):
        ArtifactStore(tmp_path / "store")
