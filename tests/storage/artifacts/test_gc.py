"""Garbage collection removes exactly what no run or dataset needs, whatever runs at the same time."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spinmeround.storage.artifacts import (
    ArtifactStore,
    find_garbage,
    forget_run,
    register_run,
    registered_runs,
    remove_garbage,
)
from spinmeround.storage.artifacts import runs as store_runs
from spinmeround.storage.errors import StoreError
from tests.support.artifacts import key_of, put


def chain(store: ArtifactStore, number: int) -> dict[str, str]:
    """Artifacts of one head: `render`, and `write` made from it."""
    render = put(store, "render", number)
    return {"render": render, "write": put(store, "write", number, {"render": render})}


def run_folder(root: Path, name: str = "run") -> Path:
    """The folder of a run that has no results."""
    folder = root / name
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"profile": name}))
    summarize(folder)
    return folder


def summarize(folder: Path, **results: object) -> None:
    """Write the summary of a command with these results, as commands do: the others are null."""
    data = json.dumps({"dataset": None, "training": None, "evaluation": None, **results})
    (folder / "summaries").mkdir(exist_ok=True)
    number = len(list((folder / "summaries").iterdir()))
    (folder / "summaries" / f"20260101T00000{number}.000000Z.json").write_text(data)
    (folder / "summary.json").write_text(data)


def add_dataset(store: ArtifactStore, folder: Path, number: int, inputs: dict[str, str]) -> tuple[str, str]:
    """Publish a dataset into the folder of a run; returns its digest and the key of its artifact."""
    digest = f"{number:064x}"[::-1]
    key = put(store, "publish", number, inputs, {"dataset.json": json.dumps({"digest": digest}).encode()})
    dataset = folder / "datasets" / f"{digest[:12]}.zarr"
    dataset.mkdir(parents=True)
    (dataset / "manifest.json").write_text(json.dumps({"digest": digest}))
    (folder / "datasets" / "versions.json").write_text("{}")
    return digest, key


def dead(store: ArtifactStore) -> set[str]:
    return {item.key for item in find_garbage(store, 0.0).dead}


def existing(store: ArtifactStore) -> set[str]:
    return {entry.key for entry in store.backend.entries()}


def test_requested_artifacts_stay(any_store: ArtifactStore, tmp_path: Path) -> None:
    """Artifacts of registered runs stay, with all their inputs; `remove_garbage` removes the others."""
    kept, other = chain(any_store, 1), chain(any_store, 2)
    register_run(any_store, run_folder(tmp_path), "tiny", {"h-1": {"write": kept["write"]}})
    garbage = find_garbage(any_store, 0.0)
    assert {item.key for item in garbage.dead} == set(other.values())
    assert existing(any_store) == {*kept.values(), *other.values()}
    items, strays = remove_garbage(any_store, garbage)
    assert ({item.key for item in items}, strays) == (set(other.values()), [])
    assert existing(any_store) == set(kept.values())
    assert all(any_store.examine(stage, key) == [] for stage, key in kept.items())
    assert dead(any_store) == set()
    assert chain(any_store, 2) == other


def test_young_artifacts_stay_with_their_inputs(any_store: ArtifactStore, tmp_path: Path) -> None:
    """Artifacts within the grace period stay, and so do their inputs."""
    chain(any_store, 1)
    register_run(any_store, run_folder(tmp_path), "tiny", {})
    assert find_garbage(any_store, 3600.0).dead == ()
    assert len(find_garbage(any_store, 0.0).dead) == 2


def test_a_summary_with_an_unknown_key_keeps_everything(store: ArtifactStore, tmp_path: Path) -> None:
    """It is damaged, or of another store: what the run needs is unknown."""
    folder, training = run_folder(tmp_path), put(store, "train", 1)
    register_run(store, folder, "tiny", {})
    summarize(folder, training={"key": f"{training[:-1]}x"})
    garbage = find_garbage(store, 0.0)
    assert garbage.dead == ()
    assert f"summary names train/{training[:12]}, which the store lacks" in garbage.roots.notes[0]


def test_a_dataset_is_kept_by_the_name_of_its_folder(store: ArtifactStore, tmp_path: Path) -> None:
    """Though its manifest states another digest, since a bit of it flipped."""
    folder, digest = run_folder(tmp_path), "12" * 32
    put(store, "publish", 1, {}, {"dataset.json": json.dumps({"digest": digest}).encode()})
    dataset = folder / "datasets" / f"{digest[:12]}.zarr"
    dataset.mkdir(parents=True)
    (dataset / "manifest.json").write_text(json.dumps({"digest": f"{digest[:-1]}3"}))
    register_run(store, folder, "tiny", {})
    assert dead(store) == set()


def test_published_datasets_and_latest_trainings_are_roots(store: ArtifactStore, tmp_path: Path) -> None:
    """A dataset in the folder of a run keeps its heads after the run has requested others, until it is deleted."""
    heads, later, folder = chain(store, 1), chain(store, 2), run_folder(tmp_path)
    digest, publish = add_dataset(store, folder, 1, {"h-1": heads["write"]})
    last, _ = add_dataset(store, folder, 2, {"h-2": later["write"]})
    training, older = put(store, "train", 1), put(store, "train", 2)
    summarize(folder, dataset={"digest": digest}, training={"key": older})
    summarize(folder, dataset={"digest": last}, training={"key": training})
    register_run(store, folder, "tiny", {})
    assert dead(store) == {older}
    shutil.rmtree(folder / "datasets" / f"{digest[:12]}.zarr")
    assert dead(store) == {older, publish, *heads.values()}


def test_a_later_build_keeps_the_training(store: ArtifactStore, tmp_path: Path) -> None:
    """The last training and evaluation stay after commands that compute neither, and so does a dataset."""
    heads, folder = chain(store, 1), run_folder(tmp_path)
    digest, _ = add_dataset(store, folder, 1, {"h-1": heads["write"]})
    older, training, evaluation = put(store, "train", 2), put(store, "train", 1), put(store, "evaluate", 1)
    summarize(folder, training={"key": older})
    summarize(folder, dataset={"digest": digest}, training={"key": training})
    summarize(folder, evaluation={"key": evaluation})
    for _ in range(2):
        summarize(folder, dataset={"digest": digest})
    register_run(store, folder, "tiny", {})
    assert dead(store) == {older}
    assert find_garbage(store, 0.0).roots.notes == ()


def _gone(folder: Path) -> None:
    folder.rename(folder.with_name("unmounted"))


def _empty_mount_point(folder: Path) -> None:
    _gone(folder)
    folder.mkdir()


def _truncated_summary(folder: Path) -> None:
    (folder / "summary.json").write_text('{"training": {"ke')


def _no_summary(folder: Path) -> None:
    (folder / "summary.json").unlink()


def _no_earlier_summaries(folder: Path) -> None:
    shutil.rmtree(folder / "summaries")
    (folder / "summaries").mkdir()
    (folder / "summary.json").write_text(json.dumps({"training": None}))


def _truncated_manifest(folder: Path) -> None:
    next(folder.glob("datasets/*.zarr/manifest.json")).write_text("")


def _no_datasets(folder: Path) -> None:
    shutil.rmtree(folder / "datasets")


def _empty_datasets(folder: Path) -> None:
    _no_datasets(folder)
    (folder / "datasets").mkdir()


def _no_versions(folder: Path) -> None:
    (folder / "datasets" / "versions.json").unlink()


def _no_published_dataset(folder: Path) -> None:
    shutil.rmtree(next(folder.glob("datasets/*.zarr")))


def _datasets_on_another_disk(folder: Path) -> None:
    (folder / "datasets").rename(folder.with_name("datasets"))
    (folder / "datasets").symlink_to(folder.with_name("unmounted"))


@pytest.mark.parametrize(
    "spoil",
    [
        _gone,
        _empty_mount_point,
        _truncated_summary,
        _no_summary,
        _no_earlier_summaries,
        _truncated_manifest,
        _no_datasets,
        _empty_datasets,
        _no_versions,
        _no_published_dataset,
        _datasets_on_another_disk,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_run_that_cannot_be_read_keeps_its_artifacts(
    store: ArtifactStore, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """A folder on an unmounted disk looks like a deleted one: everything stays until the run is forgotten by name."""
    heads, folder = chain(store, 1), run_folder(tmp_path)
    digest, _ = add_dataset(store, folder, 1, {"h-1": heads["write"]})
    training, other = put(store, "train", 1), chain(store, 2)
    summarize(folder, dataset={"digest": digest}, training={"key": training})
    register_run(store, folder, "tiny", {"h-1": {"render": heads["render"]}})
    assert dead(store) == set(other.values())
    spoil(folder)
    assert dead(store) == set(other.values())
    (run,) = registered_runs(store)
    assert f"--forget {run.id}" in find_garbage(store, 0.0).roots.notes[0]


def test_runs_on_other_machines(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of another machine keeps everything until it is forgotten."""
    heads, training = chain(store, 1), put(store, "train", 1)
    register_run(store, run_folder(tmp_path), "tiny", {})
    assert dead(store) == {training, *heads.values()}
    monkeypatch.setattr(store_runs.platform, "node", lambda: "elsewhere")
    register_run(store, tmp_path / "there", "tiny", {"h-1": heads})
    monkeypatch.undo()
    assert dead(store) == set()
    (run,) = [run for run in registered_runs(store) if run.host == "elsewhere"]
    assert any(f"--forget {run.id}" in note for note in find_garbage(store, 0.0).roots.notes)
    forget_run(store, run.id)
    assert dead(store) == {training, *heads.values()}
    with pytest.raises(StoreError, match="expected one that uses"):
        forget_run(store, run.id)


def test_without_runs_nothing_is_garbage(any_store: ArtifactStore) -> None:
    """Without a registered run, garbage collection refuses."""
    chain(any_store, 1)
    with pytest.raises(StoreError, match="what to keep is unknown"):
        find_garbage(any_store, 0.0)


def test_a_run_that_registers_late_keeps_its_artifacts(any_store: ArtifactStore, tmp_path: Path) -> None:
    """A run that registers between `find_garbage` and `remove_garbage` keeps what it requests."""
    first, second = chain(any_store, 1), chain(any_store, 2)
    register_run(any_store, run_folder(tmp_path), "tiny", {})
    garbage = find_garbage(any_store, 0.0)
    register_run(any_store, run_folder(tmp_path, "other"), "other", {"h-1": {"write": first["write"]}})
    items, _ = remove_garbage(any_store, garbage)
    assert {item.key for item in items} == set(second.values())
    assert existing(any_store) == set(first.values())


def test_a_build_waits_for_a_removal(store: ArtifactStore, tmp_path: Path) -> None:
    """No run can register while artifacts are being removed."""
    registered = threading.Event()

    def register() -> None:
        register_run(store, run_folder(tmp_path), "tiny", {})
        registered.set()

    thread = threading.Thread(target=register)
    with store.named_lock(store_runs.GC_LOCK, "store"):
        thread.start()
        assert not registered.wait(0.3)
    thread.join(timeout=30)
    assert registered.is_set()


def test_locked_artifacts_stay(any_store: ArtifactStore, tmp_path: Path) -> None:
    """An artifact whose lock is held stays until the next collection."""
    heads = chain(any_store, 1)
    register_run(any_store, run_folder(tmp_path), "tiny", {})
    garbage = find_garbage(any_store, 0.0)
    with any_store.lock("render", heads["render"]):
        items, _ = remove_garbage(any_store, garbage)
    assert [item.key for item in items] == [heads["write"]]
    assert existing(any_store) == {heads["render"]}


def test_unreadable_manifests_stop_the_removal(any_store: ArtifactStore, tmp_path: Path) -> None:
    """The inputs of an unreadable artifact are unknown, so nothing is removed."""
    heads, odd = chain(any_store, 1), put(any_store, "mesh", 1)
    any_store.backend.blobs.put(f"mesh/{odd[:2]}/{odd}/manifest.json", b"{")
    register_run(any_store, run_folder(tmp_path), "tiny", {})
    with pytest.raises(StoreError, match="store repair"):
        remove_garbage(any_store, find_garbage(any_store, 0.0))
    assert existing(any_store) == {odd, *heads.values()}


def test_an_unreadable_run_record_stops_the_collection(any_store: ArtifactStore) -> None:
    """The run of an unreadable record might need everything."""
    any_store.backend.blobs.put("runs/0123456789ab.json", b"{")
    with pytest.raises(StoreError, match="expected the record of a run"):
        find_garbage(any_store, 0.0)


def test_strays_are_removed(any_store: ArtifactStore, tmp_path: Path) -> None:
    """Payloads without a manifest and artifacts that were moved aside are removed with the garbage."""
    kept = put(any_store, "mesh", 1)
    any_store.set_aside("mesh", put(any_store, "mesh", 2))
    half = key_of("mesh", 3)
    any_store.backend.blobs.put(f"mesh/{half[:2]}/{half}/{'0' * 16}/a.bin", b"half")
    register_run(any_store, run_folder(tmp_path), "tiny", {"h": {"mesh": kept}})
    assert find_garbage(any_store, 3600.0).strays == ()
    _, strays = remove_garbage(any_store, find_garbage(any_store, 0.0))
    assert len(strays) >= 2
    assert list(any_store.backend.strays()) == []
    assert any_store.examine("mesh", kept) == []
