"""Repair: damaged files of a dataset, from the artifacts of its heads, which are made anew where they are damaged too.

A dataset says in its attributes with which parameters it was made, so its heads can be made again from their seeds.
What comes out must have the very bytes that the manifest asks for; nothing else is put in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts import Artifact, ArtifactStore
from spinmeround.storage.dataset import (
    ARRAYS,
    LATENTS,
    MANIFEST,
    HeadEntry,
    Problem,
    mend_files,
    mend_shared_files,
    read_manifest,
    read_metadata,
    set_aside,
    verify,
)
from spinmeround.storage.errors import DatasetError, StoreError
from spinmeround.tasks.heads.embed import EMBED, EmbedParams
from spinmeround.tasks.heads.mesh import MESH
from spinmeround.tasks.heads.normals import NORMALS, NormalsParams
from spinmeround.tasks.heads.render import RENDER, RenderParams
from spinmeround.tasks.heads.sample import SAMPLE, SampleParams
from spinmeround.tasks.stage import Head, Stage, head_keys, make_head
from spinmeround.tasks.write import WRITE

_STAGES: tuple[Stage, ...] = (SAMPLE, RENDER, MESH, NORMALS, EMBED, WRITE)
_SECTIONS: Mapping[str, type[BaseModel]] = {
    "generator": GeneratorConfig,
    "views": ViewGrid,
    "sample": SampleParams,
    "render": RenderParams,
    "mesh": MeshParams,
    "normals": NormalsParams,
    "embed": EmbedParams,
}
Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair did: files replaced, what was moved aside, and the problems that are left, each with its reason."""

    replaced: tuple[str, ...]
    aside: tuple[Path, ...]
    left: tuple[Problem, ...]
    reasons: tuple[str, ...]


def stated_sections(dataset: Path) -> dict[str, BaseModel]:
    """The sections of the profile that a dataset was made with, as its attributes state them.

    Raises DatasetError where they are not there, or this software reads them differently.
    """
    parameters = (read_metadata(dataset).get("attributes") or {}).get("parameters")
    if not isinstance(parameters, dict) or not parameters.keys() >= _SECTIONS.keys():
        raise DatasetError(
            f"{dataset}: expected the parameters of {', '.join(_SECTIONS)} among its attributes, found none; "
            "say with which profile it was made (--profile)"
        )
    try:
        return {name: section.model_validate(parameters[name]) for name, section in _SECTIONS.items()}
    except ValidationError as error:
        raise DatasetError(f"{dataset}: attribute parameters: {' '.join(str(error).split())}") from error


def repair(dataset: Path, store: ArtifactStore, sections: Mapping[str, BaseModel] | None, told: Told) -> Repaired:
    """Mend what `verify` finds; the digest stays. `told` hears of each head that is looked up or made anew.

    `sections` are the profile's, by default those that the dataset states.
    """
    problems = verify(dataset)
    if not problems:
        return Repaired(replaced=(), aside=(), left=(), reasons=())
    replaced: list[str] = []
    aside: list[Path] = []
    reasons: list[str] = []
    if any(problem.file in ("zarr.json", MANIFEST) for problem in problems):
        reason = "the group's own metadata are damaged: move the dataset away and build it again from its artifacts"
        return Repaired(replaced=(), aside=(), left=tuple(problems), reasons=(reason,))
    files = read_manifest(dataset).files
    names = sorted({problem.file for problem in problems if problem.file})
    if latents := [name for name in names if name.startswith(f"{LATENTS}/")]:
        aside.append(set_aside(dataset, LATENTS))
        reasons.append("the latents were moved away; the next training puts them in again, from their artifacts")
    for name in (name for name in names if name not in files and name not in latents):
        aside.append(set_aside(dataset, name))
    try:
        heads = _Heads(dataset, store, sections or stated_sections(dataset), told)
        for name in (name for name in names if name in files and heads.owner(name)):
            mend_files(dataset, {name: heads.source(name)})
            replaced.append(name)
        if shared := [name for name in names if name in files and not heads.owner(name)]:
            mend_shared_files(dataset, shared, [heads.entry(id) for id in heads.ids])
            replaced += shared
    except (DatasetError, StoreError) as error:
        reasons.append(str(error))
    left = verify(dataset)
    if any(not problem.file for problem in left):
        reasons.append("what the files hold was published so: make the heads with other parameters, as a new version")
    return Repaired(replaced=tuple(replaced), aside=tuple(aside), left=tuple(left), reasons=tuple(reasons))


class _Heads:
    """The heads of a dataset, as artifacts that are whole."""

    def __init__(self, dataset: Path, store: ArtifactStore, sections: Mapping[str, Any], told: Told) -> None:
        self.ids: Sequence[str] = (read_metadata(dataset).get("attributes") or {})["ids"]
        self.store = store
        self.sections = {stage.name: {name: sections[name] for name in stage.reads} for stage in _STAGES}
        self.told = told
        self._entries: dict[str, HeadEntry] = {}
        self._owners = {
            f"{name}/{spec.file(subject)}": (id, f"{name}/{spec.file(0)}")
            for name, spec in ARRAYS.items()
            if spec.linked
            for subject, id in enumerate(self.ids)
        }

    def owner(self, name: str) -> str | None:
        """The head that a file of the dataset belongs to; None where it belongs to many."""
        return self._owners.get(name, (None, ""))[0]

    def source(self, name: str) -> Path:
        """The file in a head's artifact that a file of the dataset was taken from."""
        id, file = self._owners[name]
        return self.entry(id).folder / file

    def entry(self, id: str) -> HeadEntry:
        """A head's group, from the store or made anew."""
        if id not in self._entries:
            self.told(id)
            head = Head(id=id, seed=_seed(id))
            keys = head_keys(_STAGES, head, self.sections)
            artifact = self._whole(WRITE, head, keys)
            checksums = {name: record.sha256 for name, record in artifact.manifest.files.items()}
            self._entries[id] = HeadEntry(id=id, folder=artifact.path, checksums=checksums)
        return self._entries[id]

    def _whole(self, stage: Stage, head: Head, keys: Mapping[str, str]) -> Artifact:
        """An artifact with every byte checked; one that is missing or damaged is made, after those it is made from."""
        try:
            return self.store.verify(stage.name, keys[stage.name])
        except StoreError:
            inputs = {name: keys[name] for name in stage.inputs}
            for before in _STAGES:
                if before.name in inputs:
                    self._whole(before, head, keys)
            make_head(self.store, stage, head, self.sections[stage.name], inputs)
            return self.store.verify(stage.name, keys[stage.name])


def _seed(id: str) -> int:
    """The seed in a head's id, as `tasks.plan` names heads."""
    try:
        return int(id.rpartition("-")[2])
    except ValueError as error:
        raise DatasetError(f"head {id}: expected an id that ends in the seed, as generator-000123") from error
