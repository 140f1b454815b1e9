"""The artifact store under faults: killed writers, full, read-only and forbidden disks, concurrent writers."""

import errno
import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from spinmeround.storage import files
from spinmeround.storage.artifacts import ArtifactStore, Manifest, artifact_key
from spinmeround.storage.errors import MissingArtifact, StorageUnavailable
from tests.support.processes import kill, kill_at_random, running, start, wait

FILES, BYTES = 4, 30_000


def key_of(number: int) -> str:
    return artifact_key("render", 1, {"number": number}, {})


def commit(store: ArtifactStore, number: int, payload: Callable[[Path], None] | None = None) -> None:
    with store.commit(
        "render", key_of(number), version=1, params={"number": number}, inputs={}, weights="", subject=str(number)
    ) as out:
        (payload or (lambda out: write_views(out, number)))(out)


def write_views(out: Path, number: int) -> None:
    for file in range(FILES):
        (out / f"{file}.bin").write_bytes(bytes([number % 256]) * BYTES)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, at most 30 s."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold within 30 s"
        time.sleep(0.01)


def test_kill_9_leaves_complete_or_absent(store: ArtifactStore) -> None:
    """A writer is killed at 30 random moments: artifacts are complete or absent, leftovers swept, locks free."""
    chance, killed = random.Random(0), 0
    for turn in range(30):
        numbers = range(turn * 100, turn * 100 + 100)

        def write(numbers: range = numbers) -> None:
            for number in numbers:
                with store.lock("render", key_of(number)):
                    commit(store, number)

        killed += kill_at_random(write, chance, within_s=0.06) == -signal.SIGKILL
        existing = [number for number in numbers if store.has("render", key_of(number))]
        for number in existing:
            artifact = store.verify("render", key_of(number))
            assert (artifact.path / "0.bin").read_bytes() == bytes([number % 256]) * BYTES
        assert existing == list(numbers[: len(existing)])
        with store.lock("render", key_of(numbers[len(existing)]), timeout_s=1.0):
            commit(store, numbers[len(existing)])
    store.sweep()
    assert killed == 30
    assert list((store.root / "tmp").iterdir()) == []
    assert list((store.root / "locks").iterdir()) == []
    assert not (store.root / "corrupt").exists()


def test_sweep_keeps_folders_in_use(store: ArtifactStore) -> None:
    """Temporary folders of a running writer stay, those of a killed one are removed."""

    def hang() -> None:
        commit(store, 1, lambda out: time.sleep(600))

    with running(hang) as alive, running(hang) as dead:
        wait_for(lambda: len(list((store.root / "tmp").glob("*[!k]"))) == 2)
        kill(dead)
        assert len(store.sweep()) == 1
        assert store.sweep() == []
        kill(alive)
    assert len(store.sweep()) == 1
    assert list((store.root / "tmp").iterdir()) == []


def test_concurrent_builds_make_each_artifact_once(store: ArtifactStore, tmp_path: Path) -> None:
    """Processes that need the same artifacts at the same time make each of them once."""
    made = tmp_path / "made"

    def build() -> None:
        for number in range(8):
            with store.lock("render", key_of(number)):
                if not store.has("render", key_of(number)):
                    commit(store, number)
                    with made.open("a") as log:
                        log.write(f"{number}\n")

    children = [start(build) for _ in range(3)]
    assert [wait(child) for child in children] == [0, 0, 0]
    assert sorted(made.read_text().split()) == [str(number) for number in range(8)]
    assert list((store.root / "locks").iterdir()) == []


def test_killed_holder_frees_the_lock(store: ArtifactStore) -> None:
    """The kernel frees a lock when its holder dies, and a waiter gets it at once."""

    def hold() -> None:
        with store.lock("render", key_of(1)):
            (store.root / "held").touch()
            time.sleep(600)

    with running(hold) as holder:
        wait_for((store.root / "held").exists)
        kill(holder)
    with store.lock("render", key_of(1), timeout_s=1.0):
        pass


def _np_save(out: Path) -> None:
    np.save(out / "array.npy", np.ones(2**20, np.uint8))


def _np_savez(out: Path) -> None:
    np.savez(out / "arrays.npz", array=np.ones(2**20, np.uint8))


def _safetensors(out: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"array": np.ones(2**20, np.uint8)}, out / "tensors.safetensors")


@pytest.mark.parametrize("payload", [_np_save, _np_savez, _safetensors])
def test_full_disk(small_disk: Callable[[str], Path], payload: Callable[[Path], None]) -> None:
    """A full disk is reported as such whichever library wrote; no partial artifact is left, and existing ones stay."""
    store = ArtifactStore(small_disk("size=1m") / "store")
    commit(store, 1, lambda out: (out / "x").write_bytes(b"x"))
    with pytest.raises(StorageUnavailable, match="the disk is full: free some space"):
        commit(store, 2, payload)
    assert not store.has("render", key_of(2))
    assert list((store.root / "tmp").iterdir()) == []
    store.verify("render", key_of(1))
    commit(store, 3, lambda out: (out / "x").write_bytes(b"x"))


def test_full_disk_while_recording_a_failure(small_disk: Callable[[str], Path]) -> None:
    """Recording a failure also reports the full disk."""
    root = small_disk("size=64k") / "store"
    with pytest.raises(StorageUnavailable, match="disk is full"):
        ArtifactStore(root).record_failure("render", key_of(1), "head", "why", "x" * 100_000, 1)


def test_read_only_disk(small_disk: Callable[[str], Path]) -> None:
    """A read-only store can be read; writing raises an error with the path and a remedy."""
    disk = small_disk("size=1m")
    commit(ArtifactStore(disk / "store"), 1, lambda out: (out / "x").write_bytes(b"x"))
    small_disk("remount,ro")
    store = ArtifactStore(disk / "store")
    store.verify("render", key_of(1))
    with pytest.raises(StorageUnavailable, match=r"store.*read-only: choose a writable folder"):
        commit(store, 2)
    with pytest.raises(StorageUnavailable, match="read-only"), store.lock("render", key_of(2)):
        pass
    with pytest.raises(StorageUnavailable, match="read-only"):
        store.record_failure("render", key_of(2), "head", "why", "", 1)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "change the folder's permissions"),
        (errno.EIO, "input/output"),
    ],
    ids=["full", "quota", "read-only", "forbidden", "failing"],
)
def test_failing_system_calls(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, code: int, advice: str) -> None:
    """Each failure of the environment names the store and a remedy, and leaves no artifact and no temporary file."""

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    commit(store, 1)
    with monkeypatch.context() as patched:
        patched.setattr(files, "_syncfs", lambda: None)
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StorageUnavailable, match=advice) as caught:
            commit(store, 2)
    assert str(store.root) in str(caught.value)
    assert not store.has("render", key_of(2))
    assert list((store.root / "tmp").iterdir()) == []
    store.verify("render", key_of(1))


def test_other_errors_pass(store: ArtifactStore) -> None:
    """An error of the head itself passes unchanged, even an OSError."""
    for error in (FileNotFoundError(errno.ENOENT, "no such file", "x"), ValueError("bad head")):

        def fail(out: Path, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            commit(store, 1, fail)
        assert caught.value is error


def test_errors_cross_processes() -> None:
    """User-facing errors keep their class and text when they are pickled between processes."""
    error: Any = StorageUnavailable("cannot use /x: the disk is full")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (StorageUnavailable, str(error))


def test_a_clock_that_jumps_back(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeping does not depend on the wall clock."""

    def half() -> None:
        commit(store, 1, lambda out: os.kill(os.getpid(), signal.SIGKILL))

    assert wait(start(half)) == -signal.SIGKILL
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert len(store.sweep()) == 1
    commit(store, 1)
    store.verify("render", key_of(1))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change its user id")
def test_a_store_of_another_user() -> None:
    """Without write permission, existing artifacts are readable; a commit fails with the path and a remedy."""
    with TemporaryDirectory(prefix="store-") as folder:
        os.chmod(folder, 0o755)
        store = ArtifactStore(Path(folder) / "store")
        commit(store, 1)

        def visit() -> None:
            os.setgid(65534)
            os.setuid(65534)
            assert store.verify("render", key_of(1)).manifest.subject == "1"
            with pytest.raises(StorageUnavailable, match=r"store.*permission denied: change the folder's permissions"):
                commit(store, 2)
            with pytest.raises(StorageUnavailable, match="permission denied"), store.lock("render", key_of(2)):
                pass
            with pytest.raises(StorageUnavailable, match="permission denied"):
                store.record_failure("render", key_of(2), "head", "why", "", 1)

        assert wait(start(visit)) == 0
        assert not store.has("render", key_of(2))
        commit(store, 2)


def _folder(lock: Path, victim: Path) -> None:
    lock.mkdir()


def _link(lock: Path, victim: Path) -> None:
    lock.symlink_to(victim)


@pytest.mark.parametrize("put", [_folder, _link])
def test_a_lock_path_that_is_not_a_file(
    store: ArtifactStore, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    """A folder or a link in place of a lock file is reported with its path; the link's target stays unchanged."""
    victim, locks = tmp_path / "victim", store.root / "locks"
    victim.write_bytes(b"unchanged")
    locks.mkdir(parents=True)
    put(locks / f"render-{key_of(1)}.lock", victim)
    with (
        pytest.raises(StorageUnavailable, match=r"\.lock: .*found a folder or a link; remove it"),
        store.lock("render", key_of(1)),
    ):
        pass
    assert victim.read_bytes() == b"unchanged"


def test_an_artifact_removed_during_a_read(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that another process removes during a read is missing, not damaged, and nothing is moved."""
    commit(store, 1)
    folder = store.path("render", key_of(1))
    deliver = store.backend.deliver

    def removed_before(manifest: Manifest, data: bytes, *, full: bool) -> list[str]:
        shutil.rmtree(folder)
        return deliver(manifest, data, full=full)

    for access in (store.open, store.verify):
        with monkeypatch.context() as patched:
            patched.setattr(store.backend, "deliver", removed_before)
            with pytest.raises(MissingArtifact, match="run the stage render"):
                access("render", key_of(1))
        commit(store, 1)
    assert not (store.root / "corrupt").exists()
