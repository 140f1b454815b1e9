"""What no kept dataset or run refers to, and its removal beside running builds.

Kept are: what the registered runs ask for, what the datasets in their folders were published from, their latest
training and evaluation, whatever is younger than the grace, and all that any of these was made from. Before each
block of removals the runs' records are read again under the lock that a run needs to register, so a build that has
just begun keeps what it asks for. An artifact whose own lock is held stays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spinmeround.storage.artifacts.backend import Stray
from spinmeround.storage.artifacts.runs import GC_LOCK, Roots, find_roots, run_versions
from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.artifacts.survey import StoredArtifact, Survey, live_keys, survey_store
from spinmeround.storage.errors import StoreError

_BLOCK = 200


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What can go, and what it was judged by."""

    found: Survey
    roots: Roots
    versions: dict[str, str]
    young_since: float
    dead: tuple[StoredArtifact, ...]
    strays: tuple[Stray, ...]


def find_garbage(store: ArtifactStore, grace_s: float, report: Callable[[int], None] = lambda done: None) -> Garbage:
    """Judge every artifact and stray; removes nothing.

    Raises StoreError where no run has said that it uses the store, so that nothing tells what is kept.
    """
    with store.held(GC_LOCK, f"artifact store {store.root}"):
        versions, roots = run_versions(store), find_roots(store)
    if not roots.runs:
        raise StoreError(
            f"artifact store {store.root}: expected the record of a run that uses it, found none, so what is kept is "
            "unknown; run 'spinmeround build' of each run once more (where all is there it makes nothing)"
        )
    young_since = store.backend.now() - grace_s
    found = survey_store(store, report)
    live = live_keys(store, found, roots, young_since=young_since)
    return Garbage(
        found=found,
        roots=roots,
        versions=versions,
        young_since=young_since,
        dead=tuple(item for item in found.items.values() if item.key not in live),
        strays=tuple(stray for stray in store.backend.strays() if stray.modified <= young_since),
    )


def remove_garbage(
    store: ArtifactStore, garbage: Garbage, report: Callable[[int], None] = lambda done: None
) -> tuple[list[StoredArtifact], list[Stray]]:
    """Remove what `find_garbage` found and no run has asked for since; returns what went.

    Raises StoreError where manifests of a newer version of the software stand in the way of judging.
    """
    if garbage.found.unreadable:
        name, why = next(iter(garbage.found.unreadable.items()))
        raise StoreError(
            f"artifact store {store.root}: {len(garbage.found.unreadable)} manifests can't be read, so what they were "
            f"made from is unknown: {name}: {why}. Nothing was removed; run 'spinmeround store repair' first"
        )
    gone: list[StoredArtifact] = []
    versions, dead = garbage.versions, {item.key for item in garbage.dead}
    for start in range(0, len(garbage.dead), _BLOCK):
        block = garbage.dead[start : start + _BLOCK]
        with store.held(GC_LOCK, f"artifact store {store.root}"):
            if (newer := run_versions(store)) != versions:
                versions, roots = newer, find_roots(store)
                dead -= live_keys(store, garbage.found, roots, young_since=garbage.young_since)
            gone += _remove(store, [item for item in block if item.key in dead])
        report(len(block))
    for stray in garbage.strays:
        store.backend.remove_stray(stray)
    return gone, list(garbage.strays)


def _remove(store: ArtifactStore, items: Sequence[StoredArtifact]) -> list[StoredArtifact]:
    gone = []
    for item in items:
        try:
            with store.lock(item.stage, item.key, timeout_s=0.0):
                store.backend.remove(item.stage, item.key)
                gone.append(item)
        except StoreError:  # someone makes or uses it just now
            continue
    return gone
