"""Finds a finished training that more steps continue.

The learning rate and the random numbers of a step do not depend on the number of steps, so a training that continues
ends with the same weights as one that took all steps at once.
"""

from collections.abc import Mapping
from typing import Any

from spinmeround.storage.artifacts import ArtifactStore, Manifest
from spinmeround.storage.artifacts.manifest import plain_json
from spinmeround.storage.errors import SpinMeRoundError, StorageUnavailable
from spinmeround.tasks.training.key import VERSION, without_steps
from spinmeround.tasks.training.params.phases import PhaseName


def find_finished(
    store: ArtifactStore, phase: PhaseName, content: Mapping[str, Any], inputs: Mapping[str, str], weights: str
) -> Manifest | None:
    """The longest training of the same content and inputs but fewer steps, if it kept its last checkpoint."""
    sought, steps = plain_json(without_steps(content)), content["phase"]["steps"]
    best: Manifest | None = None
    for manifest in _manifests(store, phase):
        if (manifest.version, manifest.inputs, manifest.weights) != (VERSION, dict(inputs), weights):
            continue
        if without_steps(manifest.params) != sought or not any(name.startswith("state/") for name in manifest.files):
            continue
        if _steps(manifest) < steps and (best is None or _steps(manifest) > _steps(best)):
            best = manifest
    return best


def _steps(manifest: Manifest) -> int:
    phase: Any = manifest.params["phase"]
    return int(phase["steps"])


def _manifests(store: ArtifactStore, phase: PhaseName) -> list[Manifest]:
    """The manifests of all trainings of a phase that can be read."""
    found = []
    for entry in store.backend.entries(phase):
        try:
            found.append(store.manifest(phase, entry.key))
        except StorageUnavailable:
            raise
        except SpinMeRoundError:
            continue
    return found
