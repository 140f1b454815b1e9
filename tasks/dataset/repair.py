"""Repair: restore damaged files of a dataset from the artifacts of its heads, which are made again where necessary.

A dataset records in its attributes the parameters that it was made with, so its heads can be made again from their
seeds. A file is replaced only by one with exactly the bytes that the manifest records.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import (
    ARRAYS,
    LATENTS,
    MANIFEST,
    HeadParts,
    Problem,
    open_head,
    read_manifest,
    read_metadata,
    rebuild_files,
    replace_files,
    separator_of,
    set_aside,
    verify,
)
from spinmeround.storage.errors import DatasetError, StoreError, validation_message
from spinmeround.storage.manifests import FileRecord
from spinmeround.tasks.dataset.publish import head_parts
from spinmeround.tasks.heads.embed import EMBED, EmbedParams
from spinmeround.tasks.heads.mesh import MESH
from spinmeround.tasks.heads.normals import NORMALS, NormalsParams
from spinmeround.tasks.heads.plan import head_of_id
from spinmeround.tasks.heads.registry import PUBLISHED_STAGES
from spinmeround.tasks.heads.render import RENDER, RenderParams
from spinmeround.tasks.heads.sample import SAMPLE, SampleParams
from spinmeround.tasks.stage import BoundStage, Head, Stage, StageSections, bound_keys

_STAGES: tuple[Stage[Any], ...] = (SAMPLE, RENDER, MESH, NORMALS, EMBED)


class HeadSections(StageSections):
    """The sections that the published arrays of a head depend on."""

    generator: GeneratorConfig
    views: ViewGrid
    sample: SampleParams
    render: RenderParams
    mesh: MeshParams
    normals: NormalsParams
    embed: EmbedParams


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """Result of a repair: replaced files, files moved aside, and remaining problems with the reasons."""

    replaced: tuple[str, ...]
    aside: tuple[Path, ...]
    left: tuple[Problem, ...]
    reasons: tuple[str, ...]


def recorded_sections(dataset: Path) -> HeadSections:
    """The sections of the profile that a dataset was made with, from its attributes.

    Raises DatasetError if the dataset does not record them, or if they are invalid in this version of the software.
    """
    parameters = (read_metadata(dataset).get("attributes") or {}).get("parameters")
    names = HeadSections.model_fields
    if not isinstance(parameters, dict) or not parameters.keys() >= names.keys():
        raise DatasetError(
            f"{dataset}: expected the parameters of {', '.join(names)} in its attributes, found none; "
            "give the profile that it was made with (--profile)"
        )
    try:
        return HeadSections.model_validate({name: parameters[name] for name in names})
    except ValidationError as error:
        raise DatasetError(f"{dataset}: attribute parameters: {validation_message(error)}") from error


def repair(
    dataset: Path, store: ArtifactStore, profile: BaseModel | None, on_head: Callable[[str], None] = lambda id: None
) -> Repaired:
    """Repair what `verify` finds; the digest does not change. `on_head` gets the id of each head that is needed.

    `profile` has the sections of `HeadSections` as attributes; None: those that the dataset records.
    """
    problems = verify(dataset)
    if not problems:
        return Repaired(replaced=(), aside=(), left=(), reasons=())
    if any(problem.file in ("zarr.json", MANIFEST) for problem in problems):
        reason = "the group's own metadata is damaged: move the dataset away and build it again from its artifacts"
        return Repaired(replaced=(), aside=(), left=tuple(problems), reasons=(reason,))
    names = sorted({problem.file for problem in problems if problem.file})
    aside, reasons = _set_aside(dataset, names)
    replaced: list[str] = []
    try:
        heads = _Heads(dataset, store, profile or recorded_sections(dataset), on_head)
        for name in _restore(dataset, heads, names):
            replaced.append(name)
    except (DatasetError, StoreError) as error:
        reasons.append(str(error))
    left = verify(dataset)
    if any(not problem.file for problem in left):
        reasons.append(
            "the remaining problems were published with the dataset: build a new version with other parameters"
        )
    return Repaired(replaced=tuple(replaced), aside=tuple(aside), left=tuple(left), reasons=tuple(reasons))


def _set_aside(dataset: Path, names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Move damaged latents, and files that do not belong to the dataset, out of it; their new paths, and notes."""
    files = _Files(dataset)
    aside: list[Path] = []
    notes: list[str] = []
    latents = [name for name in names if name.startswith(f"{LATENTS}/")]
    if latents:
        aside.append(set_aside(dataset, LATENTS))
        notes.append("the latents were moved aside; the next training restores them from their artifacts")
    aside += [set_aside(dataset, name) for name in names if files.record(name) is None and name not in latents]
    return aside, notes


def _restore(dataset: Path, heads: "_Heads", names: Sequence[str]) -> Iterator[str]:
    """Replace the damaged files of the dataset; yields their names. Raises at the first that cannot be replaced."""
    files = heads.files
    known = {name: record for name in names if (record := files.record(name)) is not None}
    for name in (name for name in known if files.owner(name) is not None):
        heads.restore(name, known[name])
        yield name
    if shared := {name: (name, record) for name, record in known.items() if files.owner(name) is None}:
        rebuild_files(dataset, [heads.parts(id) for id in files.ids], shared, files.separator)
        yield from shared


class _Files:
    """The files of a dataset: their records, and the heads that they belong to."""

    def __init__(self, dataset: Path) -> None:
        self.ids: Sequence[str] = (read_metadata(dataset).get("attributes") or {})["ids"]
        self.separator = separator_of(read_metadata(dataset / next(iter(ARRAYS))))
        self._manifest = read_manifest(dataset)

    def owner(self, name: str) -> tuple[int, str] | None:
        """The subject and the array of a file that belongs to one head; None for other files."""
        array, _, file = name.partition("/")
        spec = ARRAYS.get(array)
        subject = spec.index(file, self.separator) if spec is not None and spec.linked else None
        return None if subject is None or subject >= len(self.ids) else (subject, array)

    def record(self, name: str) -> FileRecord | None:
        """The record of a file; None for one that is not of the dataset."""
        owner = self.owner(name)
        return self._manifest.record(name, None if owner is None else owner[0])


class _Heads:
    """The heads of a dataset, from intact artifacts."""

    def __init__(self, dataset: Path, store: ArtifactStore, profile: BaseModel, on_head: Callable[[str], None]) -> None:
        self.files = _Files(dataset)
        self._dataset, self._store, self._on_head = dataset, store, on_head
        self._stages: dict[str, BoundStage[Any]] = {
            stage.name: stage.bound(stage.sections(profile)) for stage in _STAGES
        }
        self._cameras = RENDER.sections(profile).views.cameras()
        self._parts: dict[str, HeadParts] = {}

    def restore(self, name: str, record: FileRecord) -> None:
        """Replace a file that belongs to one head."""
        owner = self.files.owner(name)
        assert owner is not None, f"{name}: the caller restores files of heads"
        subject, array = owner
        parts, spec, separator = self.parts(self.files.ids[subject]), ARRAYS[array], self.files.separator
        if (folder := parts.group(array)) is not None:
            replace_files(self._dataset, {name: (folder / open_head(folder).chunk(array, spec), record)})
        else:
            rebuild_files(self._dataset, [parts], {name: (f"{array}/{spec.file(0, separator)}", record)}, separator)

    def parts(self, id: str) -> HeadParts:
        """A head's arrays, from the store or made again."""
        if id not in self._parts:
            self._on_head(id)
            head = head_of_id(id)
            keys = bound_keys(list(self._stages.values()), head)
            for name in PUBLISHED_STAGES:
                self._ensure(name, head, keys)
            self._parts[id] = head_parts(self._store, head, keys, self._cameras)
        return self._parts[id]

    def _ensure(self, name: str, head: Head, keys: Mapping[str, str]) -> None:
        """Make an artifact, after its inputs, if it is missing or damaged."""
        try:
            self._store.verify(name, keys[name])
        except StoreError:
            bound = self._stages[name]
            for before in bound.stage.inputs:
                self._ensure(before, head, keys)
            bound.make(self._store, head, {before: keys[before] for before in bound.stage.inputs})
