"""What a run's folder says about its results: the datasets in it, and the last results of training and after it.

    summary.json, summaries/*.json     results by part; a part that a command did not compute is null
    datasets/versions.json             lies beside every dataset that was published
    datasets/<digest[:12]>.zarr/       a dataset

A part of the folder may be on a disk that is not mounted and then looks empty. Each function raises OSError or
ValueError where the folder lacks what a run with these results must have: its results are then unknown.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinmeround.storage.artifacts.store import ArtifactStore
from spinmeround.storage.manifests import is_litter

_STAGES = {
    "training": "train",
    "evaluation": "evaluate",
    "ablation": "ablate",
    "reconstruction": "reconstruct",
}
"""The stages of results; those of trainings since version 0.1.0 state theirs, the phase."""
_PARTS = ("dataset", *_STAGES)


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """Keys of the last results; digests of the datasets, and the 12 digits that name their folders."""

    keys: frozenset[str]
    digests: frozenset[str]


def run_results(store: ArtifactStore, folder: Path) -> RunResults:
    """The results of the run in `folder`. Raises OSError or ValueError if they are unknown."""
    _json(folder / "run.json")
    last = _last_results(folder)
    keys = {str(part["key"]) for name, part in last.items() if name in _STAGES and "key" in part}
    for name, part in last.items():
        _check_stored(store, name, part)
    digests = _dataset_digests(folder / "datasets")
    if "dataset" in last:
        _check_datasets(str(last["dataset"].get("digest")), digests, folder / "datasets")
    return RunResults(keys=frozenset(keys), digests=frozenset(digests))


def last_reconstruction(folder: Path) -> Mapping[str, Any] | None:
    """The newest reconstruction that the run in `folder` made, as its summary states it; None if none is known."""
    try:
        return _last_results(folder).get("reconstruction")
    except (OSError, ValueError):
        return None


def _last_results(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The newest result of each part: a command writes null for parts that it did not compute."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in _summaries(folder):
        summary = _json(path)
        found = {name: summary[name] for name in _PARTS if isinstance(summary.get(name), dict)} | found
        if len(found) == len(_PARTS):
            break
    return found


def _summaries(folder: Path) -> Iterator[Path]:
    """The summaries of a run, newest first."""
    if not (folder / "summary.json").exists():
        raise ValueError("summary.json is missing, which a command writes when it ends")
    yield folder / "summary.json"
    dated = sorted((path for path in (folder / "summaries").glob("*.json") if not is_litter(path.name)), reverse=True)
    if not dated:
        raise ValueError("summaries/ is empty, which holds the results of earlier commands")
    yield from dated


def _check_stored(store: ArtifactStore, name: str, part: Mapping[str, Any]) -> None:
    if name in _STAGES and "key" in part:
        stage, key = str(part.get("stage", _STAGES[name])), str(part["key"])
        if not re.fullmatch(r"[0-9a-f]{64}", key) or not store.has(stage, key):
            raise ValueError(f"its summary names {stage}/{key[:12]}, which the store lacks")


def _dataset_digests(datasets: Path) -> set[str]:
    """Digests of the datasets in a folder, and the names of their folders, should one be damaged or not mounted."""
    if not datasets.exists() and not datasets.is_symlink():
        return set()
    places = [path for path in datasets.iterdir() if path.suffix == ".zarr" and not is_litter(path.name)]
    manifests = [path / "manifest.json" for path in places]
    digests = {str(_json(path).get("digest")) for path in manifests if path.exists()}
    return digests | {path.stem for path in places}


def _check_datasets(digest: str, found: set[str], datasets: Path) -> None:
    if not (datasets / "versions.json").exists():
        raise ValueError("datasets/versions.json is missing, although the run has published")
    if found.isdisjoint({digest, digest[:12]}):
        raise ValueError(f"datasets/{digest[:12]}.zarr is missing, which the run published last")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found other content ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return found
