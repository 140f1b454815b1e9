"""Records of the runs that use a store; garbage collection keeps what these runs need, wherever they run.

    <root>/runs/<id>.json   folder, profile and the keys of all artifacts that the run requests

A run registers before it looks for its first artifact, and `gc` reads all records before it removes anything: both
hold the store's lock `gc` while they do. Requested artifacts may not exist yet.
"""

import hashlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from spinmeround.storage.artifacts.backend import GC_LOCK
from spinmeround.storage.artifacts.models import FOLDER as MODELS
from spinmeround.storage.artifacts.models import registered_keys
from spinmeround.storage.artifacts.run_results import run_results
from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.errors import StoreError, environment_errors, one_line, validation_message
from spinmeround.storage.manifests import Sha256
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed

FINAL_STAGES = (
    "publish",
    "faces",
    "train",
    "adapt",
    "single-view",
    "multi-view",
    "evaluate",
    "ablate",
    "reconstruct",
)
"""Stages whose keys are unknown until their inputs are made; `train` is of version 0.1.0, with all phases in one."""


class RunRecord(FrozenModel):
    """A run that uses the store: its folder and host, and the keys that it requests, by stage."""

    schema_version: Literal[1] = 1
    id: str
    folder: str
    host: str
    profile: str
    updated: str
    keys: dict[str, list[Sha256]]


@dataclass(frozen=True, kw_only=True)
class Roots:
    """What must be kept, together with everything it was made from.

    `digests` are those of the datasets in the folders of runs, and the first 12 digits that name their folders. If the
    results of a run are unknown (its folder or a part of it was deleted, is on another machine or on a disk that is not
    mounted), `final_unknown` is set: all published datasets, trainings and evaluations then count as kept.
    """

    keys: frozenset[str]
    digests: frozenset[str]
    final_unknown: bool
    notes: tuple[str, ...]
    runs: int


def register_run(store: ArtifactStore, folder: Path, profile: str, keys: Mapping[str, Mapping[str, str]]) -> None:
    """Register the run in `folder` with the artifacts that it requests (head -> stage -> key); replaces its record."""
    by_stage: dict[str, list[str]] = {}
    for stages in keys.values():
        for stage, key in stages.items():
            by_stage.setdefault(stage, []).append(key)
    host = platform.node()
    record = RunRecord(
        id=hashlib.sha256(f"{host}:{folder}".encode()).hexdigest()[:12],
        folder=str(folder),
        host=host,
        profile=profile,
        updated=datetime.now(UTC).isoformat(timespec="seconds"),
        keys=by_stage,
    )
    with store.named_lock(GC_LOCK, f"artifact store {store.root}"), environment_errors(Path(store.root)):
        store.backend.blobs.put(f"runs/{record.id}.json", sealed_json(record))


def forget_run(store: ArtifactStore, run: str) -> None:
    """Remove the record of a run. Raises StoreError if no such run is registered."""
    known = [record.id for record in registered_runs(store)]
    if run not in known:
        raise StoreError(
            f"run {run!r}: expected one that uses {store.root}: {', '.join(known) or 'none is registered'}"
        )
    store.backend.blobs.delete(f"runs/{run}.json")


def registered_runs(store: ArtifactStore) -> list[RunRecord]:
    """All registered runs. Raises StoreError for an unreadable record, since what that run needs is unknown."""
    return [record for _, record in _records(store)]


def record_digests(store: ArtifactStore) -> dict[str, str]:
    """A digest of each record of a run or of a model, by name, to notice changes."""
    found = (each for folder in ("runs", MODELS) for each in _blobs(store, folder))
    return {name: hashlib.sha256(data).hexdigest() for name, data in found}


def find_roots(store: ArtifactStore) -> Roots:
    """What the registered runs, their published datasets, latest trainings and latest evaluations need, and what the
    versions of registered models need.
    """
    keys = registered_keys(store)
    digests: set[str] = set()
    notes, unknown, runs = [], False, registered_runs(store)
    for run in runs:
        keys |= {key for found in run.keys.values() for key in found}
        try:
            results = run_results(store, Path(run.folder))
        except (OSError, ValueError, RecursionError) as error:
            unknown = True
            notes.append(_unknown_results(run, error))
        else:
            keys |= results.keys
            digests |= results.digests
    return Roots(
        keys=frozenset(keys), digests=frozenset(digests), final_unknown=unknown, notes=tuple(notes), runs=len(runs)
    )


def _unknown_results(run: RunRecord, error: Exception) -> str:
    return (
        f"run {run.id} ({run.profile}): its results are unknown, since its folder {run.folder} on {run.host} or a part "
        f"of it cannot be read ({one_line(error, 160)}); its artifacts and all datasets and trainings are kept. Mount "
        "the disk, or run 'spinmeround build' of that run again; if the run was deleted: "
        f"spinmeround store gc --forget {run.id}"
    )


def _blobs(store: ArtifactStore, folder: str) -> Iterator[tuple[str, bytes]]:
    for name in store.backend.blobs.names(folder):
        if (data := store.backend.blobs.get(name)) is not None:
            yield name, data


def _records(store: ArtifactStore) -> Iterator[tuple[str, RunRecord]]:
    for name, data in _blobs(store, "runs"):
        try:
            yield name, RunRecord.model_validate(unsealed(data))
        except ValueError as error:
            raise StoreError(
                f"{store.root}/{name}: expected the record of a run, found {validation_message(error)}; "
                "remove it and run 'spinmeround build' of that run again"
            ) from error
