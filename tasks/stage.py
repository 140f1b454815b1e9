"""What a stage is: a step of the dataset's making that turns one head's inputs into one artifact.

A stage names the sections of the profile that it reads and the stages whose artifacts it reads.
Nothing else reaches it, and just that enters its key, so a parameter that a stage does not read
cannot change what it makes, nor cause it to be made again:

    key = hash(stage name, version, sections read, keys of inputs, fingerprint of weights)

What is the same for all heads of a profile, a `BoundStage` works out once. `make_head` is all that a worker
does for one head and stage, and is safe to call from any number of processes at once: the first makes the
artifact, the others wait and reuse it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from spinmeround.storage.artifacts.store import ArtifactStore, artifact_key
from spinmeround.storage.records import FrozenModel

Outcome = Literal["made", "reused"]
Ruling = Literal["keep", "drop"]
"""What a person decided of a head, against the screen or with it."""

GATE = "review"
"""The stage whose verdict decides whether the gated stages get a head."""


class StageParams(FrozenModel):
    """Base of every section of a profile: frozen, and unknown fields are refused by name."""


def key_values(section: BaseModel) -> dict[str, Any]:
    """What of a section enters a key: all of it, unless it says itself what decides content."""
    own = getattr(section, "key_values", None)
    return own() if own is not None else section.model_dump(mode="json")


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head to make: the dataset's name for it, the generator's seed, a person's decision where there is one."""

    id: str
    seed: int
    decision: Ruling | None = None


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """What `Stage.make` gets: the head, the sections that it reads, its inputs' folders, a folder to fill."""

    head: Head
    sections: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path


def no_weights(sections: Mapping[str, Any]) -> str:
    """The fingerprint of a stage that uses no weights."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step for one head.

    `gated` stages skip the heads that screen and review dropped. The decision on the head enters the keys of
    the stages that are `decided`, and no others. `version` is raised when the code of the stage would make
    something else from the same inputs.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    gated: bool = True
    decided: bool = False
    weights: Callable[[Mapping[str, Any]], str] = no_weights
    make: Callable[[StageJob], None]

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that come before this one: its inputs, and the gate."""
        return (*self.inputs, *((GATE,) if self.gated else ()))

    def sections(self, profile: BaseModel) -> dict[str, BaseModel]:
        """The sections of the profile that this stage reads, and no others."""
        return {name: getattr(profile, name) for name in self.reads}

    def bound(self, sections: Mapping[str, BaseModel]) -> "BoundStage":
        """The stage with these sections, of which it takes those that it reads; looks at its weights now."""
        read = {name: sections[name] for name in self.reads}
        params = {name: key_values(section) for name, section in read.items()}
        return BoundStage(stage=self, sections=read, params=params, weights=self.weights(read))

    def key(self, head: Head, sections: Mapping[str, BaseModel], input_keys: Mapping[str, str]) -> str:
        """Content address of what this stage makes of this head."""
        return self.bound(sections).key(head, input_keys)


@dataclass(frozen=True, kw_only=True)
class BoundStage:
    """A stage with the sections that it reads, those as JSON, and the fingerprint of its weights."""

    stage: Stage
    sections: Mapping[str, BaseModel]
    params: Mapping[str, Any]
    weights: str

    def identity(self, head: Head) -> dict[str, Any]:
        """The parameters that enter the key; the seed does where no input already stands for it."""
        params = dict(self.params)
        if not self.stage.inputs:
            params["seed"] = head.seed
        if self.stage.decided:
            params["decision"] = head.decision
        return params

    def key(self, head: Head, input_keys: Mapping[str, str]) -> str:
        """Content address of what the stage makes of this head."""
        stage = self.stage
        return artifact_key(stage.name, stage.version, self.identity(head), dict(input_keys), self.weights)

    def make(self, store: ArtifactStore, head: Head, input_keys: Mapping[str, str]) -> Outcome:
        """Make the artifact of one head unless it is there; raises as `make_head`."""
        name, key = self.stage.name, self.key(head, input_keys)
        if store.has(name, key):
            return "reused"
        with store.lock(name, key):
            if store.has(name, key):
                return "reused"
            with ExitStack() as borrowed:
                inputs = {
                    each: borrowed.enter_context(store.borrowed(each, of)).path for each, of in input_keys.items()
                }
                with store.commit(
                    name,
                    key,
                    version=self.stage.version,
                    params=self.identity(head),
                    inputs=dict(input_keys),
                    weights=self.weights,
                    subject=head.id,
                ) as out:
                    self.stage.make(StageJob(head=head, sections=self.sections, inputs=inputs, out=out))
        return "made"


def make_head(
    store: ArtifactStore,
    stage: Stage,
    head: Head,
    sections: Mapping[str, BaseModel],
    input_keys: Mapping[str, str],
) -> Outcome:
    """Make the artifact of one head unless it is there.

    Raises whatever the stage raises, `CorruptArtifact` where an input no longer matches its manifest and
    `MissingArtifact` where it is not there.
    """
    return stage.bound(sections).make(store, head, input_keys)


def head_keys(
    stages: tuple[Stage, ...], head: Head, sections_of: Mapping[str, Mapping[str, BaseModel]]
) -> dict[str, str]:
    """Keys of all stages of one head, in order; they are known before anything is made."""
    return bound_keys([stage.bound(sections_of[stage.name]) for stage in stages], head)


def bound_keys(stages: Sequence[BoundStage], head: Head) -> dict[str, str]:
    """Keys of all stages of one head, in order."""
    keys: dict[str, str] = {}
    for bound in stages:
        keys[bound.stage.name] = bound.key(head, {name: keys[name] for name in bound.stage.inputs})
    return keys
