"""Artifacts in an object store with the S3 API.

    <root>/<stage>/<key[:2]>/<key>/<attempt>/   the payload's files, as one maker uploaded them
    <root>/<stage>/<key[:2]>/<key>/manifest.json
    <root>/locks, corrupt, failures, runs, models
    <root>/datasets   published datasets (`storage.dataset.upload`)

Objects cannot be renamed, so the manifest is written last, on the condition that none exists: the first maker wins.
It names the attempt whose files it describes, so concurrent makers, or one that resumes after its lock expired, never
mix their files. Payloads without a manifest are invisible to readers, and `gc` removes them.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from spinmeround.storage.artifacts.backend import RESERVED_FOLDERS, Backend, Blobs, Entry, Source, Stray
from spinmeround.storage.artifacts.manifest import MANIFEST, Manifest, manifest_bytes, parse_manifest
from spinmeround.storage.artifacts.s3_cache import ArtifactCache
from spinmeround.storage.errors import CorruptArtifact, StorageUnavailable, StoreError
from spinmeround.storage.manifests import is_litter
from spinmeround.storage.s3 import ObjectClient, ObjectInfo, RetryPolicy, Waiting, object_lock

LEASE_S = 30.0
_AT_ONCE = 8
_RENEWALS_MISSED = 20
_GIGABYTE = 1 << 30


class ObjectBlobs(Blobs):
    """Small objects by name."""

    def __init__(self, client: ObjectClient) -> None:
        self._client = client

    def put(self, name: str, data: bytes) -> None:
        self._client.put(name, data)

    def get(self, name: str) -> bytes | None:
        return self._client.get(name)

    def delete(self, name: str) -> None:
        self._client.delete(name)

    def names(self, folder: str) -> list[str]:
        return [found.name for found in self._client.listing(folder)]


class ObjectBackend(Backend):
    """Artifacts below an S3 URL; stages work on copies in `cache`."""

    def __init__(self, client: ObjectClient, cache: ArtifactCache, *, lease_s: float = LEASE_S) -> None:
        self.root: str = client.url
        self.client, self.cache, self._lease_s = client, cache, lease_s
        self._waiting: dict[str, Waiting] = {}
        """What was seen of locks: one that is asked for again and again without waiting expires, too."""
        self.scratch = cache.scratch
        self.blobs = ObjectBlobs(client)

    def has(self, stage: str, key: str) -> bool:
        return self.client.info(f"{_home(stage, key)}/{MANIFEST}") is not None

    def manifest(self, stage: str, key: str) -> bytes | None:
        return self.client.get(f"{_home(stage, key)}/{MANIFEST}")

    def folder(self, manifest: Manifest) -> Path:
        return self.cache.folder(manifest.stage, manifest.key)

    def deliver(self, manifest: Manifest, data: bytes, *, full: bool) -> list[str]:
        def fetch(out: Path) -> list[str]:
            return _together(lambda name: self._fetch(manifest, name, out), manifest.files)

        return self.cache.ensure(manifest, data, fetch, full=full)

    def examine(self, manifest: Manifest) -> list[str]:
        payload = _payload(manifest)
        names = {found.name.removeprefix(f"{payload}/") for found in self.client.listing(payload)}
        extra = sorted(name for name in names - set(manifest.files) - {MANIFEST} if not is_litter(name))
        found = _together(lambda name: self._fetch(manifest, name, None), manifest.files)
        return found + [f"{name} is not in the manifest" for name in extra]

    def publish(self, out: Path, manifest: Manifest) -> None:
        manifest = manifest.model_copy(update={"payload": secrets.token_hex(8)})
        self.place(_payload(manifest), out, manifest.files, {})
        place, data = f"{_home(manifest.stage, manifest.key)}/{MANIFEST}", manifest_bytes(manifest)
        if self.client.create(place, data) is not None or self.client.get(place) == data:
            self.cache.adopt(out, manifest, data)
            return
        for name in manifest.files:  # another maker was faster
            self.client.delete(f"{_payload(manifest)}/{name}")

    def place(self, place: str, folder: Path, names: Iterable[str], linked: Mapping[str, Source]) -> None:
        """Upload these files of a folder below `place`; the server copies those in `linked`."""

        def send(name: str) -> list[str]:
            self._send(f"{place}/{name}", folder / name, linked.get(name))
            return []

        _together(send, names)

    def pinned(self, stage: str, key: str) -> AbstractContextManager[None]:
        return self.cache.pinned(stage, key)

    def set_aside(self, stage: str, key: str) -> str:
        moved, home = f"corrupt/{stage}-{key}-{secrets.token_hex(4)}", _home(stage, key)
        names = [found.name for found in self.client.listing(home)]
        for name in names:
            with suppress(StorageUnavailable):  # an object may have vanished in the meantime
                self.client.copy(name, f"{moved}{name.removeprefix(home)}")
        self._delete(home, names)
        self.cache.drop(stage, key)
        return f"{self.root}/{moved}"

    def remove(self, stage: str, key: str) -> None:
        self._delete(_home(stage, key), [found.name for found in self.client.listing(_home(stage, key))])
        self.cache.drop(stage, key)

    @contextmanager
    def hold(self, name: str, timeout_s: float | None) -> Iterator[None]:
        seen = self._waiting.setdefault(name, Waiting())
        lock = f"locks/{name}.lock"
        with object_lock(self.client, lock, lease_s=self._lease_s, timeout_s=timeout_s, seen=seen):
            self._waiting.pop(name, None)
            yield

    def sweep(self) -> list[Path]:
        return self.cache.sweep()

    def entries(self, stage: str = "") -> Iterator[Entry]:
        for found in self.client.listing(stage):
            parts = found.name.split("/")
            if len(parts) == 4 and parts[3] == MANIFEST and parts[0] not in RESERVED_FOLDERS:
                yield Entry(stage=parts[0], key=parts[2], modified=found.modified)

    def strays(self) -> Iterator[Stray]:
        artifact: list[ObjectInfo] = []
        abandoned = self.now() - _RENEWALS_MISSED * self._lease_s
        for found in self.client.listing(""):
            parts = found.name.split("/")
            if parts[0] == "corrupt" or (parts[0] == "locks" and found.modified < abandoned):
                yield _stray(found)
            elif parts[0] not in RESERVED_FOLDERS and len(parts) >= 4:
                if artifact and artifact[0].name.split("/")[:3] != parts[:3]:
                    yield from self._unnamed(artifact)
                    artifact = []
                artifact.append(found)
        yield from self._unnamed(artifact)

    def remove_stray(self, stray: Stray) -> None:
        self.client.delete(stray.name)

    def now(self) -> float:
        marker = f"locks/clock-{secrets.token_hex(8)}"
        self.client.put(marker, b"")
        found = self.client.info(marker)
        self.client.delete(marker)
        if found is None:
            raise StorageUnavailable(f"cannot use {self.root}: an object vanished right after its upload; run again")
        return found.modified

    def _fetch(self, manifest: Manifest, name: str, out: Path | None) -> list[str]:
        if out is not None:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
        expected = manifest.files[name]
        found = self.client.fetch(f"{_payload(manifest)}/{name}", out and out / name, most=expected.size)
        if found is None:
            return [f"{name} is missing"]
        if found.size != expected.size:
            more = "more" if found.size > expected.size else str(found.size)
            return [f"{name}: expected {expected.size} bytes, found {more}"]
        return [] if found.sha256 == expected.sha256 else [f"{name}: its content does not match its SHA-256"]

    def _send(self, target: str, file: Path, source: Source | None) -> None:
        """Upload a file, or copy it on the server if an input has it."""
        if source is not None:
            data = self.manifest(source.stage, source.key)
            if data is None:
                raise CorruptArtifact(
                    f"artifact {source.stage}/{source.key[:12]}, an input, was removed during the build; run again"
                )
            self.client.copy(f"{_payload(parse_manifest(data, source.stage, source.key))}/{source.name}", target)
        else:
            self.client.put(target, file)

    def _delete(self, home: str, names: Iterable[str]) -> None:
        self.client.delete(f"{home}/{MANIFEST}")
        for name in names:
            self.client.delete(name)

    def _unnamed(self, artifact: list[ObjectInfo]) -> Iterator[Stray]:
        """Objects of one artifact that its manifest does not cover."""
        if not artifact:
            return
        stage, _, key = artifact[0].name.split("/")[:3]
        home, payload = _home(stage, key), ""
        if any(found.name == f"{home}/{MANIFEST}" for found in artifact):
            try:
                payload = _payload(parse_manifest(self.manifest(stage, key) or b"", stage, key))
            except ValueError:
                return  # `verify` reports a broken manifest
        for found in artifact:
            named = found.name == f"{home}/{MANIFEST}" or (payload and found.name.startswith(f"{payload}/"))
            if not named:
                yield _stray(found)


def object_backend(url: str) -> ObjectBackend:
    """The backend of a URL, one per process, server and account."""
    account = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(("AWS_", "SPINME"))))
    return _backend(url.rstrip("/"), account)


@lru_cache(maxsize=8)
def _backend(url: str, account: tuple[tuple[str, str], ...]) -> ObjectBackend:
    known = dict(account)
    named = hashlib.sha256(f"{url} {known.get('AWS_ENDPOINT_URL', '')}".encode()).hexdigest()[:16]
    caches = Path(known.get("SPINMEROUND_CACHE") or Path.home() / ".cache" / "spinmeround").expanduser()
    try:
        limit = int(float(known.get("SPINMEROUND_CACHE_GB", "20")) * _GIGABYTE)
    except (ValueError, OverflowError) as error:  # OverflowError: infinity
        raise StoreError(
            f"SPINMEROUND_CACHE_GB: expected a number of gigabytes, got {known['SPINMEROUND_CACHE_GB']!r}"
        ) from error
    return ObjectBackend(ObjectClient(url, RetryPolicy()), ArtifactCache(caches / named, limit))


def _home(stage: str, key: str) -> str:
    return f"{stage}/{key[:2]}/{key}"


def _payload(manifest: Manifest) -> str:
    home = _home(manifest.stage, manifest.key)
    return f"{home}/{manifest.payload}" if manifest.payload else home


def _stray(found: ObjectInfo) -> Stray:
    return Stray(name=found.name, size=found.size, modified=found.modified)


def _together(work: Callable[[str], list[str]], names: Iterable[str]) -> list[str]:
    """The problems that `work` finds for the names, several in parallel; in the order of the names."""
    ordered = sorted(names)
    if len(ordered) < 2:
        return [problem for name in ordered for problem in work(name)]
    with ThreadPoolExecutor(min(_AT_ONCE, len(ordered))) as pool:
        return [problem for problems in pool.map(work, ordered) for problem in problems]
