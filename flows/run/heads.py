"""The heads of a run, with the review decisions on them and the keys of all their artifacts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.quarantine import Quarantine
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.heads.plan import plan_heads
from spinmeround.tasks.screening.decisions import Decisions, GeneratorId, load_decisions, with_decisions
from spinmeround.tasks.stage import BoundStage, Head, bound_keys


@dataclass(frozen=True, kw_only=True)
class RunHeads:
    """What follows from one reading of the decisions file. Each part is computed on first use and then stays."""

    profile: Profile
    store: ArtifactStore
    stages: Mapping[str, BoundStage[Any]]
    generator: GeneratorId
    decisions_file: Path
    given: tuple[Head, ...] | None = None
    """Some heads of the run with their decisions, in place of the plan and the file."""

    @cached_property
    def decisions(self) -> Decisions:
        """The review decisions in the file; none if the file does not exist."""
        return load_decisions(self.decisions_file, self.generator)

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """All heads of the run in order, with their decisions."""
        if self.given is not None:
            return self.given
        return tuple(with_decisions(plan_heads(self.generator.name, self.profile.plan), self.decisions))

    @cached_property
    def by_id(self) -> Mapping[str, Head]:
        """All heads by id."""
        return {head.id: head for head in self.heads}

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, str]]:
        """Artifact keys by head id and stage. They are known before any artifact exists."""
        stages = list(self.stages.values())
        return {head.id: bound_keys(stages, head) for head in self.heads}

    @cached_property
    def quarantine(self) -> Quarantine:
        """The heads of the run that failed for good."""
        return Quarantine(self.store, self.keys, self.profile.execution.max_quarantined_share)
