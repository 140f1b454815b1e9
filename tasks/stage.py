"""What a stage is: a step of the dataset's making that turns one head's inputs into one artifact.

A stage names the sections of the profile that it reads and the stages whose artifacts it reads.
Nothing else reaches it, and just that enters its key, so a parameter that a stage does not read
cannot change what it makes, nor cause it to be made again:

    key = hash(stage name, version, sections read, keys of inputs, fingerprint of weights)

`make_head` is all that a worker does for one head and stage, and is safe to call from any number of
processes at once: the first makes the artifact, the others wait and reuse it.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from storage.artifacts import ArtifactStore, artifact_key

Outcome = Literal["made", "reused"]
Ruling = Literal["keep", "drop"]
"""What a person decided of a head, against the screen or with it."""

GATE = "review"
"""The stage whose verdict decides whether the gated stages get a head."""


class StageParams(BaseModel):
    """Base of every section of a profile: frozen, and unknown fields are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    def identity(self, head: Head, sections: Mapping[str, BaseModel]) -> dict[str, Any]:
        """The parameters that enter the key; the seed does where no input already stands for it."""
        params: dict[str, Any] = {name: key_values(section) for name, section in sections.items()}
        if not self.inputs:
            params["seed"] = head.seed
        if self.decided:
            params["decision"] = head.decision
        return params

    def key(self, head: Head, sections: Mapping[str, BaseModel], input_keys: Mapping[str, str]) -> str:
        """Content address of what this stage makes of this head."""
        return artifact_key(
            self.name, self.version, self.identity(head, sections), dict(input_keys), self.weights(sections)
        )


def make_head(
    store: ArtifactStore,
    stage: Stage,
    head: Head,
    sections: Mapping[str, BaseModel],
    input_keys: Mapping[str, str],
) -> Outcome:
    """Make the artifact of one head unless it is there.

    Raises whatever the stage raises, `CorruptArtifact` where an input no longer matches its manifest.
    """
    key = stage.key(head, sections, input_keys)
    if store.has(stage.name, key):
        return "reused"
    with store.lock(stage.name, key):
        if store.has(stage.name, key):
            return "reused"
        with ExitStack() as borrowed:
            inputs = {name: borrowed.enter_context(store.borrowed(name, of)).path for name, of in input_keys.items()}
            with store.commit(
                stage.name,
                key,
                version=stage.version,
                params=stage.identity(head, sections),
                inputs=dict(input_keys),
                weights=stage.weights(sections),
                subject=head.id,
            ) as out:
                stage.make(StageJob(head=head, sections=sections, inputs=inputs, out=out))
    return "made"


def head_keys(
    stages: tuple[Stage, ...], head: Head, sections_of: Mapping[str, Mapping[str, BaseModel]]
) -> dict[str, str]:
    """Keys of all stages of one head, in order; they are known before anything is made."""
    keys: dict[str, str] = {}
    for stage in stages:
        keys[stage.name] = stage.key(head, sections_of[stage.name], {name: keys[name] for name in stage.inputs})
    return keys
