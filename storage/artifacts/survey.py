"""Lists the contents of a store from its manifests: sizes, and what was made from what. Reads no payload."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from spinmeround.storage.artifacts.backend import Entry
from spinmeround.storage.artifacts.runs import FINAL_STAGES, Roots
from spinmeround.storage.artifacts.store import ArtifactStore, Manifest
from spinmeround.storage.errors import SpinMeRoundError, StorageUnavailable, StoreError, validation_message

_AT_ONCE = 8
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class StoredArtifact:
    """An artifact: `size` in bytes, `seconds` it took to make, `modified` by the store's clock, keys of its inputs."""

    stage: str
    key: str
    subject: str
    size: int
    seconds: float
    modified: float
    input_keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All artifacts by key, and those with an unreadable manifest (stage/key -> reason)."""

    items: Mapping[str, StoredArtifact]
    unreadable: Mapping[str, str]


def survey_store(store: ArtifactStore, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Survey:
    """Read all manifests."""
    entries = list(store.backend.entries())
    items: dict[str, StoredArtifact] = {}
    unreadable: dict[str, str] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number, block in enumerate(blocks(entries)):
            for entry, found in zip(block, pool.map(lambda entry: _read(store, entry), block), strict=True):
                if isinstance(found, StoredArtifact):
                    items[found.key] = found
                elif found is not None:
                    unreadable[f"{entry.stage}/{entry.key}"] = found
            on_progress(number * _BLOCK + len(block), len(entries))
    return Survey(items=items, unreadable=unreadable)


def live_keys(store: ArtifactStore, found: Survey, roots: Roots, *, young_since: float) -> set[str]:
    """Keys of what the roots need and of what is younger than `young_since`, with all their inputs, transitively."""
    wanted = set(roots.keys)
    for item in found.items.values():
        if item.modified > young_since or (item.stage in FINAL_STAGES and _is_root(store, item, roots)):
            wanted.add(item.key)
    live: set[str] = set()
    while wanted:
        key = wanted.pop()
        if key not in live:
            live.add(key)
            known = found.items.get(key)
            wanted |= set(known.input_keys) - live if known else set()
    return live


def blocks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries in blocks of a few hundred."""
    iterator = iter(entries)
    while block := list(islice(iterator, _BLOCK)):
        yield block


def _read(store: ArtifactStore, entry: Entry) -> StoredArtifact | str | None:
    try:
        manifest = store.manifest(entry.stage, entry.key)
    except StorageUnavailable:
        raise
    except ValueError as error:
        gone = isinstance(error, StoreError) and not store.has(entry.stage, entry.key)
        return None if gone else validation_message(error)
    return _item(manifest, entry.modified)


def _item(manifest: Manifest, modified: float) -> StoredArtifact:
    return StoredArtifact(
        stage=manifest.stage,
        key=manifest.key,
        subject=manifest.subject,
        size=manifest.size,
        seconds=manifest.duration_s,
        modified=modified,
        input_keys=tuple(manifest.inputs.values()),
    )


def _is_root(store: ArtifactStore, item: StoredArtifact, roots: Roots) -> bool:
    """Whether an artifact of a final stage (publish, train, evaluate, reconstruct) is kept for itself."""
    if roots.final_unknown or item.stage != "publish":
        return roots.final_unknown
    try:
        path = store.verify(item.stage, item.key).path / "dataset.json"
        digest = str(json.loads(path.read_bytes())["digest"])
        return not roots.digests.isdisjoint({digest, digest[:12]})
    except StorageUnavailable:
        raise
    except (SpinMeRoundError, OSError, ValueError, KeyError, TypeError):
        return True
