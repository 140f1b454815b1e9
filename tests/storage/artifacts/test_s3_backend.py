"""Artifacts in an object store, against a local S3 server."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.errors import CorruptArtifact, StorageUnavailable, StoreError
from spinmeround.storage.s3 import ObjectClient
from tests.support.s3 import BUCKET, QUICK, S3Server, proxied
from tests.support.waiting import until

OpenStore = Callable[..., ArtifactStore]


def key_of(number: int, stage: str = "render", inputs: dict[str, str] | None = None) -> str:
    return artifact_key(stage, 1, {"number": number}, inputs or {})


def commit(
    store: ArtifactStore,
    number: int,
    files: dict[str, bytes] | None = None,
    *,
    stage: str = "render",
    inputs: dict[str, str] | None = None,
    fill: Callable[[Path], Any] = lambda out: None,
) -> str:
    key = key_of(number, stage, inputs)
    with store.commit(
        stage, key, version=1, params={"number": number}, inputs=inputs or {}, weights="", subject=f"h-{number}"
    ) as out:
        fill(out)
        for name, data in (files or {}).items():
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes(data)
    return key


def payload_object(s3: S3Server, prefix: str, key: str, name: str) -> str:
    (found,) = [each for each in s3.names(prefix) if key in each and each.endswith(f"/{name}")]
    return f"{prefix}/{found}"


def test_another_machine_reads_the_artifact(open_s3: OpenStore, s3: S3Server, s3_prefix: str) -> None:
    """A second cache fetches the payload once, byte for byte."""
    made = open_s3("here")
    key = commit(made, 1, {"a.bin": b"a" * 100_000, "deep/b.bin": b"b"})
    with proxied(s3.port) as faults:
        store = open_s3("there", url=faults.url)
        found = store.verify("render", key)
        assert (found.path / "a.bin").read_bytes() == b"a" * 100_000
        assert (found.path / "deep" / "b.bin").read_bytes() == b"b"
        fetched = len(faults.requests)
        store.open("render", key)
        assert [method for method, *_ in faults.requests[fetched:]] == ["GET"]  # only the manifest
    attempt = found.manifest.payload
    home = f"render/{key[:2]}/{key}"
    assert s3.names(s3_prefix) == sorted(
        [f"{home}/manifest.json", f"{home}/{attempt}/a.bin", f"{home}/{attempt}/deep/b.bin"]
    )


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_damage_on_the_server_is_quarantined(open_s3: OpenStore, s3: S3Server, s3_prefix: str, damage: str) -> None:
    """A fetch reports a damaged object and moves the artifact aside; it can then be made again."""
    key = commit(open_s3(), 1, {"a.bin": b"payload"})
    place = payload_object(s3, s3_prefix, key, "a.bin")
    if damage == "missing":
        s3.s3.delete_object(Bucket=BUCKET, Key=place)
    else:
        s3.s3.put_object(Bucket=BUCKET, Key=place, Body=b"paYload" if damage == "flipped" else b"pay")
    store = open_s3("fresh")
    assert len(store.examine("render", key)) == 1
    with pytest.raises(CorruptArtifact, match=r"a\.bin.*run the stage render again"):
        store.open("render", key)
    assert not store.has("render", key)
    assert not [name for name in s3.names(s3_prefix) if name.startswith("render/")]
    assert [name for name in s3.names(s3_prefix) if name.startswith("corrupt/") and name.endswith("manifest.json")]
    commit(store, 1, {"a.bin": b"payload"})
    assert store.examine("render", key) == []


def test_damage_in_the_cache_is_repaired(open_s3: OpenStore, tmp_path: Path) -> None:
    """A damaged local copy is fetched again from the intact store."""
    store = open_s3()
    key = commit(store, 1, {"a.bin": b"payload"})
    (store.path("render", key) / "a.bin").write_bytes(b"paYload")
    assert (store.verify("render", key).path / "a.bin").read_bytes() == b"payload"
    (store.path("render", key) / "a.bin").write_bytes(b"paYload")
    assert (open_s3().open("render", key).path / "a.bin").read_bytes() == b"payload"  # as after a power cut


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_server_on_this_machine_is_reached_without_a_proxy(
    open_s3: OpenStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A proxy that nobody serves is set, and no list of exceptions."""
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    store = open_s3()
    key = commit(store, 1, {"a.bin": b"0123"})
    assert (store.verify("render", key).path / "a.bin").read_bytes() == b"0123"


def test_two_makers_at_once(open_s3: OpenStore, s3: S3Server, s3_prefix: str) -> None:
    """Without the lock, the first manifest stays with its own files; those of the other maker are removed."""
    stores, barrier = [open_s3("one"), open_s3("two")], threading.Barrier(2)

    def make(number: int) -> None:
        commit(stores[number], 7, {"a": bytes([number]) * 1000, "b": bytes([number])}, fill=lambda out: barrier.wait())

    threads = [threading.Thread(target=make, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    fresh = open_s3("fresh")
    found = fresh.verify("render", key_of(7)).path
    assert (found / "a").read_bytes() == (found / "b").read_bytes() * 1000
    assert len(s3.names(s3_prefix)) == 3
    assert [(store.verify("render", key_of(7)).path / "b").read_bytes() for store in stores] == [
        (found / "b").read_bytes()
    ] * 2


def test_two_makers_with_the_lock_make_it_once(open_s3: OpenStore) -> None:
    """With the lock, one maker makes the artifact and the others reuse it."""
    made = []

    def build(store: ArtifactStore) -> None:
        with store.lock("render", key_of(1)):
            if not store.has("render", key_of(1)):
                commit(store, 1, {"a": b"a"})
                made.append(store)

    threads = [threading.Thread(target=build, args=(open_s3(f"{number}"),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(made) == 1


def test_the_lock_of_a_dead_holder_expires(open_s3: OpenStore) -> None:
    """A lock that is not renewed is free after its lease; a renewed lock is not, however long it is held."""
    store = open_s3(lease_s=0.6)
    store.backend.blobs.put(f"locks/render-{key_of(1)}.lock", b"0123456789abcdef 0\n")
    lock = store.lock("render", key_of(1), timeout_s=2.0)
    with store.lock("render", key_of(1), timeout_s=10.0), pytest.raises(StoreError, match="has held its lock"), lock:
        pass
    assert store.backend.blobs.names("locks") == []


def test_the_lock_of_a_dead_holder_expires_for_one_who_only_looks(open_s3: OpenStore) -> None:
    """Many looks without waiting see that it is not renewed, as one long wait does."""
    store = open_s3(lease_s=0.6)
    store.backend.blobs.put(f"locks/render-{key_of(1)}.lock", b"0123456789abcdef 0\n")
    assert store.locked("render", key_of(1))
    until(lambda: not store.locked("render", key_of(1)))
    assert store.backend.blobs.names("locks") == []


def test_conditional_writes(open_s3: OpenStore) -> None:
    """One client creates an object and only a client with its tag replaces it; manifests and locks rely on this."""
    client = ObjectClient(str(open_s3().root), QUICK)
    first = client.create("x", b"1")
    assert first is not None
    assert client.create("x", b"2") is None
    second = client.replace("x", b"3", first)
    assert second is not None
    assert client.replace("x", b"4", first) is None
    assert client.replace("nothing", b"5", first) is None
    assert client.get("x") == b"3"


def test_the_cache_is_bounded(open_s3: OpenStore, tmp_path: Path) -> None:
    """The least recently used copies are evicted, except recent and pinned ones."""
    store = open_s3(limit=250_000)
    keys = [commit(store, number, {"a": bytes(100_000)}) for number in range(4)]
    for age, key in enumerate(keys):
        old = store.path("render", key) / "manifest.json"
        os.utime(old, (1_000_000 + age, 1_000_000 + age))
    with store.backend.pinned("render", keys[0]):
        store.sweep()
    left = {path.parent.name for path in (tmp_path / "cache" / "render").glob("*/*/manifest.json")}
    assert left == {keys[0], keys[3]}
    assert all((store.open("render", key).path / "a").stat().st_size == 100_000 for key in keys)


def test_files_without_a_manifest_are_strays(open_s3: OpenStore, s3: S3Server, s3_prefix: str) -> None:
    """Files of a killed maker belong to no artifact; they are listed and can be removed."""
    store = open_s3()
    key = commit(store, 1, {"a": b"a"})
    for home in (f"render/{key[:2]}/{key}", f"render/00/{'0' * 64}"):
        s3.s3.put_object(Bucket=BUCKET, Key=f"{s3_prefix}/{home}/{'f' * 16}/a", Body=b"half")
    assert [(entry.stage, entry.key) for entry in store.backend.entries()] == [("render", key)]
    strays = list(store.backend.strays())
    assert sorted(stray.size for stray in strays) == [4, 4]
    for stray in strays:
        store.backend.remove_stray(stray)
    assert store.examine("render", key) == []
    assert len(s3.names(s3_prefix)) == 2


def test_invalid_addresses(open_s3: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid URL and a missing bucket are reported at once, with a remedy."""
    open_s3()
    for url in ("s3://", "s3://heads/../x", "gs://heads/x", "s3://HEADS"):
        with pytest.raises(StoreError, match="expected s3://bucket"):
            ArtifactStore(url)
    with pytest.raises(StorageUnavailable, match="create the bucket"):
        commit(ArtifactStore("s3://nowhere/x"), 1, {"a": b"a"})


def test_an_oversized_object_is_not_read_to_its_end(open_s3: OpenStore, s3: S3Server, s3_prefix: str) -> None:
    """A fetch stops soon after the size in the manifest."""
    store = open_s3()
    key = commit(store, 1, {"a.bin": b"payload"})
    place = payload_object(s3, s3_prefix, key, "a.bin")
    s3.s3.put_object(Bucket=BUCKET, Key=place, Body=bytes(40_000_000))
    record = ObjectClient(str(store.root), QUICK).fetch(place.removeprefix(f"{s3_prefix}/"), None, most=7)
    assert record is not None
    assert record.size < 20_000_000
    assert store.examine("render", key) == ["a.bin: expected 7 bytes, found more"]
