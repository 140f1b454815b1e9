"""Which runs use a store: each says so in the store itself, so that what it needs is kept wherever it runs.

    <root>/runs/<id>.json   folder, profile and the keys of all artifacts that the run asks for

A run says so before it looks for the first artifact, and `gc` removes nothing without having read what all runs
said: both hold the store's lock `gc` meanwhile. What is asked for may not be made yet.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.errors import StoreError, environment_errors
from spinmeround.storage.manifests import Sha256
from spinmeround.storage.records import FrozenModel

GC_LOCK = "gc"
FINAL_STAGES = ("publish", "train", "evaluate")
"""Stages whose keys no run can tell beforehand."""


class RunRecord(FrozenModel):
    """A run that uses the store: where its folder is, and what it asks for (keys by stage)."""

    schema_version: Literal[1] = 1
    id: str
    folder: str
    host: str
    profile: str
    updated: str
    keys: dict[str, list[Sha256]]


@dataclass(frozen=True, kw_only=True)
class Roots:
    """What must be kept, with all that it was made from.

    `digests` are those of the datasets that stand in the folders of runs. Where a run's folder can't be seen from
    here, `ends_unknown`: all published datasets, trainings and evaluations then count as kept.
    """

    keys: frozenset[str]
    digests: frozenset[str]
    ends_unknown: bool
    notes: tuple[str, ...]
    runs: int


def register_run(store: ArtifactStore, folder: Path, profile: str, keys: Mapping[str, Mapping[str, str]]) -> None:
    """Say that the run in `folder` asks for these artifacts (head -> stage -> key), in place of what it said before."""
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
    with store.held(GC_LOCK, f"artifact store {store.root}"), environment_errors(Path(store.root)):
        store.backend.blobs.put(f"runs/{record.id}.json", record.model_dump_json().encode())


def forget_run(store: ArtifactStore, run: str) -> None:
    """Let a run's claim go. Raises StoreError where there is no such run."""
    known = [record.id for record in registered_runs(store)]
    if run not in known:
        raise StoreError(
            f"run {run!r}: expected one that uses {store.root}, of {', '.join(known) or 'which none does'}"
        )
    store.backend.blobs.delete(f"runs/{run}.json")


def registered_runs(store: ArtifactStore) -> list[RunRecord]:
    """All runs that said so. Raises StoreError for a record that can't be read: what it needs is unknown."""
    return [record for _, record in _records(store)]


def run_versions(store: ArtifactStore) -> dict[str, str]:
    """A digest of each record, to see whether any has changed."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in _blobs(store)}


def find_roots(store: ArtifactStore) -> Roots:
    """What the registered runs, their published datasets and their latest trainings need."""
    keys: set[str] = set()
    digests: set[str] = set()
    notes, unknown, runs = [], False, registered_runs(store)
    for run in runs:
        folder = Path(run.folder)
        if (folder / "run.json").is_file():
            keys |= {key for found in run.keys.values() for key in found} | _latest(folder)
            digests |= _digests(folder)
        elif run.host == platform.node():
            notes.append(f"run {run.id} ({run.profile}): its folder {folder} is gone, so it keeps nothing")
        else:
            keys |= {key for found in run.keys.values() for key in found}
            unknown = True
            notes.append(
                f"run {run.id} ({run.profile}): its folder {folder} on {run.host} can't be seen from here, so all "
                f"datasets and trainings are kept; if it is gone: spinmeround store gc --forget {run.id}"
            )
    return Roots(
        keys=frozenset(keys), digests=frozenset(digests), ends_unknown=unknown, notes=tuple(notes), runs=len(runs)
    )


def _blobs(store: ArtifactStore) -> Iterator[tuple[str, bytes]]:
    for name in store.backend.blobs.names("runs"):
        if (data := store.backend.blobs.get(name)) is not None:
            yield name, data


def _records(store: ArtifactStore) -> Iterator[tuple[str, RunRecord]]:
    for name, data in _blobs(store):
        try:
            yield name, RunRecord.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(
                f"{store.root}/{name}: expected the record of a run, found something else; remove it, and run "
                "'spinmeround build' of that run again"
            ) from error


def _latest(folder: Path) -> set[str]:
    """Keys of the last training and evaluation of a run."""
    summary = _json(folder / "summary.json")
    parts = (summary.get("training"), summary.get("evaluation"))
    return {str(part["key"]) for part in parts if isinstance(part, dict) and "key" in part}


def _digests(folder: Path) -> set[str]:
    """Digests of the datasets in a run's folder."""
    manifests = (_json(path) for path in (folder / "datasets").glob("*/manifest.json"))
    return {str(manifest["digest"]) for manifest in manifests if "digest" in manifest}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
