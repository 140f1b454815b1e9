"""Stages: the steps that build a dataset. A stage turns the inputs of one head into one artifact.

A stage declares the sections of the profile that it reads (a `StageSections` record) and the stages whose artifacts
it reads. It gets nothing else, and exactly this enters its key, so a parameter that a stage does not read can
neither change its output nor cause a rebuild:

    key = hash(stage name, version, sections read, keys of inputs, fingerprint of weights)

A `BoundStage` computes once what is the same for all heads of a profile. `make_head` makes one artifact of one head.
It is safe to call from any number of processes: one makes the artifact, the others wait and reuse it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from spinmeround.storage.artifacts import ArtifactStore, Outcome, artifact_key
from spinmeround.storage.records import FrozenParams

__all__ = ["GATE", "BoundStage", "Decision", "Head", "NoSections", "Outcome", "Stage", "StageJob", "StageParams"]
__all__ += ["StageSections", "bound_keys", "head_keys", "key_values", "make_head"]

Decision = Literal["keep", "drop"]
"""A person's decision on a head; overrides the screen."""

GATE = "review"
"""The stage whose verdict decides whether the gated stages process a head."""


class StageParams(FrozenParams):
    """Base of every section of a profile: immutable, rejects unknown fields."""


class StageSections(FrozenParams):
    """Base of the records of sections that a stage reads: one field per section, named as in the profile."""


class NoSections(StageSections):
    """The record of a stage that reads no section."""


Sections = TypeVar("Sections", bound=StageSections)


def key_values(section: BaseModel) -> dict[str, Any]:
    """The values of a section that enter keys: `section.key_values()` if it has this method, else all fields."""
    own = getattr(section, "key_values", None)
    return own() if own is not None else section.model_dump(mode="json")


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head to make: its id in the dataset, the generator's seed, and a person's decision if one exists."""

    id: str
    seed: int
    decision: Decision | None = None


@dataclass(frozen=True, kw_only=True)
class StageJob(Generic[Sections]):
    """The arguments of `Stage.make`: the head, the sections, the folders of the inputs by stage, the output folder."""

    head: Head
    sections: Sections
    inputs: Mapping[str, Path]
    out: Path


def no_weights(sections: object) -> str:
    """The fingerprint of a stage that uses no weights."""
    return ""


def no_gpu(sections: object) -> bool:
    """What a stage says that computes on the CPU alone."""
    return False


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[Sections]):
    """One step for one head.

    `sections_type` declares the sections that the stage reads, `inputs` the stages whose artifacts it reads.
    Heads without the artifacts of the stages in `after` are left out, although the stage does not read those.
    `gated` stages skip heads that screen or review dropped. The decision on a head enters the key only of stages
    that are `decided`. `gpu` tells from the sections whether it computes on a GPU, on a machine that has one. Raise
    `version` when the code makes something else from the same inputs.
    """

    name: str
    version: int
    sections_type: type[Sections]
    inputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    gated: bool = True
    decided: bool = False
    weights: Callable[[Sections], str] = no_weights
    gpu: Callable[[Sections], bool] = no_gpu
    make: Callable[[StageJob[Sections]], None]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the profile's sections that this stage reads."""
        return tuple(self.sections_type.model_fields)

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that run before this one: inputs, `after` and the gate."""
        return (*self.inputs, *self.after, *((GATE,) if self.gated else ()))

    def sections(self, profile: BaseModel) -> Sections:
        """The sections that this stage reads; `profile` has each as an attribute."""
        return self.sections_type.model_validate({name: getattr(profile, name) for name in self.reads})

    def bound(self, sections: Sections) -> "BoundStage[Sections]":
        """The stage with these sections and the fingerprint of its weights, which is computed now."""
        params = {name: key_values(getattr(sections, name)) for name in self.reads}
        return BoundStage(stage=self, sections=sections, params=params, weights=self.weights(sections))

    def key(self, head: Head, sections: Sections, input_keys: Mapping[str, str]) -> str:
        """Key of the artifact of this head."""
        return self.bound(sections).key(head, input_keys)


@dataclass(frozen=True, kw_only=True)
class BoundStage(Generic[Sections]):
    """A stage with its sections, the same as JSON values (`params`), and the fingerprint of its weights."""

    stage: Stage[Sections]
    sections: Sections
    params: Mapping[str, Any]
    weights: str

    def key_params(self, head: Head) -> dict[str, Any]:
        """The parameters that enter the key. The seed does if the stage has no input that depends on it."""
        params = dict(self.params)
        if not self.stage.inputs:
            params["seed"] = head.seed
        if self.stage.decided:
            params["decision"] = head.decision
        return params

    def key(self, head: Head, input_keys: Mapping[str, str]) -> str:
        """Key of the artifact of this head."""
        stage = self.stage
        return artifact_key(stage.name, stage.version, self.key_params(head), dict(input_keys), self.weights)

    @property
    def on_gpu(self) -> bool:
        """Whether the stage computes on a GPU of a machine that has one."""
        return self.stage.gpu(self.sections)

    def make(
        self, store: ArtifactStore, head: Head, input_keys: Mapping[str, str], *, patience_s: float | None = None
    ) -> Outcome:
        """Make the artifact of one head unless it exists.

        Raises as `make_head`, and LockHeld if another process still makes it after `patience_s`.
        """

        def fill(out: Path) -> None:
            with ExitStack() as borrowed:
                inputs = {
                    name: borrowed.enter_context(store.borrowed(name, key)).path for name, key in input_keys.items()
                }
                self.stage.make(StageJob(head=head, sections=self.sections, inputs=inputs, out=out))

        return store.make_once(
            self.stage.name,
            self.key(head, input_keys),
            fill,
            version=self.stage.version,
            params=self.key_params(head),
            inputs=dict(input_keys),
            weights=self.weights,
            subject=head.id,
            patience_s=patience_s,
        )


def make_head(
    store: ArtifactStore, stage: Stage[Sections], head: Head, sections: Sections, input_keys: Mapping[str, str]
) -> Outcome:
    """Make the artifact of one head unless it exists.

    Raises what the stage raises, CorruptArtifact if an input does not match its manifest, and MissingArtifact if an
    input does not exist.
    """
    return stage.bound(sections).make(store, head, input_keys)


def head_keys(stages: Sequence[Stage[Any]], head: Head, sections_of: Mapping[str, StageSections]) -> dict[str, str]:
    """Keys of all stages of one head, in order, known before anything is made; `sections_of` maps stage to sections."""
    return bound_keys([stage.bound(sections_of[stage.name]) for stage in stages], head)


def bound_keys(stages: Sequence[BoundStage[Any]], head: Head) -> dict[str, str]:
    """Keys of all stages of one head, in order."""
    keys: dict[str, str] = {}
    for bound in stages:
        keys[bound.stage.name] = bound.key(head, {name: keys[name] for name in bound.stage.inputs})
    return keys
