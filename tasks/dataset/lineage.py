"""The origin of an artifact, stage by stage, and the differences between two origins.

A step is a stage with everything that enters its key. The steps of a head follow from the profile before anything is
made; those of a stored artifact are recorded in its manifest and in the manifests of its inputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinmeround.storage.artifacts import ArtifactStore, Manifest
from spinmeround.storage.errors import StoreError
from spinmeround.tasks.stage import BoundStage, Head


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage of one head, and the manifest of its artifact if that exists."""

    stage: str
    key: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    weights: str
    manifest: Manifest | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A stage in two origins: why the artifacts differ; `changes` is empty if they do not."""

    stage: str
    changes: tuple[str, ...]


def expected_steps(
    store: ArtifactStore, stages: Sequence[BoundStage[Any]], head: Head, keys: Mapping[str, str]
) -> dict[str, Step]:
    """All steps of a head, from its profile and keys, with the manifests of existing artifacts."""
    return {
        bound.stage.name: Step(
            stage=bound.stage.name,
            key=keys[bound.stage.name],
            version=bound.stage.version,
            params=bound.key_params(head),
            inputs={name: keys[name] for name in bound.stage.inputs},
            weights=bound.weights,
            manifest=_manifest(store, bound.stage.name, keys[bound.stage.name]),
        )
        for bound in stages
    }


def stored_steps(store: ArtifactStore, manifest: Manifest) -> dict[str, Step]:
    """The steps that led to an artifact, in order; inputs that are not named after a stage are not followed."""
    steps: dict[str, Step] = {}
    for role, key in manifest.inputs.items():
        if role not in steps and (found := _manifest(store, role, key)) is not None:
            steps |= {name: step for name, step in stored_steps(store, found).items() if name not in steps}
    return steps | {manifest.stage: _step(manifest)}


def find_artifact(store: ArtifactStore, key: str, stages: Sequence[str]) -> Manifest:
    """The artifact whose key starts with `key`, first among `stages`. Raises StoreError for none or more than one."""
    found = [manifest for stage in stages if len(key) == 64 and (manifest := _manifest(store, stage, key)) is not None]
    if not found:  # the start of a key, or a stage of an older version
        named = [entry for entry in store.backend.entries() if entry.key.startswith(key)]
        found = [store.manifest(entry.stage, entry.key) for entry in named[:2]]
    if len(found) != 1:
        what = "found several: give more digits" if found else "found none"
        raise StoreError(f"artifact {key!r}: expected the start of one key in {store.root}; {what}")
    return found[0]


def compare(first: Mapping[str, Step], second: Mapping[str, Step]) -> list[Difference]:
    """The differences of the second origin from the first, by stage."""
    names = [*first, *(name for name in second if name not in first)]
    return [Difference(stage=name, changes=tuple(_changes(first.get(name), second.get(name)))) for name in names]


def changed_fields(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Fields with different values, as `mesh.level: 10.0 -> 9.0`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for field in [*old, *(field for field in new if field not in old)]:
            inner = f"{name}.{field}" if name else str(field)
            yield from changed_fields(old.get(field), new.get(field), inner)
    elif old != new:
        yield f"{name}: {old} -> {new}"


def _changes(old: Step | None, new: Step | None) -> Iterator[str]:
    if old is None or new is None:
        yield "only in the second" if old is None else "only in the first"
    elif old.key != new.key:
        if old.version != new.version:
            yield f"stage version: {old.version} -> {new.version}"
        yield from changed_fields(old.params, new.params)
        if old.weights != new.weights:
            yield f"weights: {old.weights[:12] or 'none'} -> {new.weights[:12] or 'none'}"
        changed = [role for role in {**old.inputs, **new.inputs} if old.inputs.get(role) != new.inputs.get(role)]
        if changed:
            yield f"different input: {', '.join(changed)}"


def _step(manifest: Manifest) -> Step:
    return Step(
        stage=manifest.stage,
        key=manifest.key,
        version=manifest.version,
        params=manifest.params,
        inputs=manifest.inputs,
        weights=manifest.weights,
        manifest=manifest,
    )


def _manifest(store: ArtifactStore, stage: str, key: str) -> Manifest | None:
    try:
        return store.manifest(stage, key)
    except StoreError:
        return None
