"""Garbage collection: finds artifacts that no run or dataset needs, and removes them while builds may be running.

Kept are the artifacts that registered runs request, the sources of the datasets in their folders, their latest
training and evaluation, all versions of registered models, everything younger than the grace period, and all inputs of
these, transitively. Before each block of removals, the records of the runs and models are read again under the lock
that both need to register, so a build that has just started keeps what it requests. Artifacts whose lock is held stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spinmeround.storage.artifacts.backend import GC_LOCK, Stray
from spinmeround.storage.artifacts.runs import Roots, find_roots, record_digests
from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.artifacts.survey import StoredArtifact, Survey, live_keys, survey_store
from spinmeround.storage.errors import StoreError

_BLOCK = 200


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What can be removed, and the survey and the roots that determined it."""

    found: Survey
    roots: Roots
    record_digests: dict[str, str]
    young_since: float
    dead: tuple[StoredArtifact, ...]
    strays: tuple[Stray, ...]


def find_garbage(
    store: ArtifactStore, grace_s: float, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Garbage:
    """Find the artifacts and strays that are not needed and older than `grace_s` seconds; removes nothing.

    Raises StoreError if no run is registered, since what to keep is then unknown.
    """
    with store.named_lock(GC_LOCK, f"artifact store {store.root}"):
        digests, roots = record_digests(store), find_roots(store)
    if not roots.runs:
        raise StoreError(
            f"artifact store {store.root}: expected the record of a run that uses it, found none, so what to keep "
            "is unknown; run 'spinmeround build' of each run again (it reuses everything that exists)"
        )
    young_since = store.backend.now() - grace_s
    found = survey_store(store, on_progress)
    live = live_keys(store, found, roots, young_since=young_since)
    return Garbage(
        found=found,
        roots=roots,
        record_digests=digests,
        young_since=young_since,
        dead=tuple(item for item in found.items.values() if item.key not in live),
        strays=tuple(stray for stray in store.backend.strays() if stray.modified <= young_since),
    )


def remove_garbage(
    store: ArtifactStore, garbage: Garbage, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[StoredArtifact], list[Stray]]:
    """Remove what `find_garbage` found and no run has requested since; returns the removed artifacts and strays.

    Raises StoreError if manifests cannot be read, since their inputs are unknown.
    """
    if garbage.found.unreadable:
        name, why = next(iter(garbage.found.unreadable.items()))
        raise StoreError(
            f"artifact store {store.root}: {len(garbage.found.unreadable)} manifests cannot be read, so their "
            f"inputs are unknown: {name}: {why}. Nothing was removed; run 'spinmeround store repair' first"
        )
    removed: list[StoredArtifact] = []
    digests, dead = garbage.record_digests, {item.key for item in garbage.dead}
    for start in range(0, len(garbage.dead), _BLOCK):
        block = garbage.dead[start : start + _BLOCK]
        with store.named_lock(GC_LOCK, f"artifact store {store.root}"):
            if (newer := record_digests(store)) != digests:
                digests, roots = newer, find_roots(store)
                dead -= live_keys(store, garbage.found, roots, young_since=garbage.young_since)
            removed += _remove(store, [item for item in block if item.key in dead])
        on_progress(start + len(block), len(garbage.dead))
    for stray in garbage.strays:
        store.backend.remove_stray(stray)
    return removed, list(garbage.strays)


def _remove(store: ArtifactStore, items: Sequence[StoredArtifact]) -> list[StoredArtifact]:
    removed = []
    for item in items:
        try:
            with store.lock(item.stage, item.key, timeout_s=0.0):
                store.backend.remove(item.stage, item.key)
                removed.append(item)
        except StoreError:  # it is being made or used
            continue
    return removed
