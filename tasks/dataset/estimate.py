"""What a build will make, how long it will take and how much disk, before anything runs.

Times and sizes are the means of what the store has of the same stage: of artifacts with the same parameters where
there are any, else of others, which is said. Heads that no screen has judged yet count by the share that is kept
of the judged ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinmeround.storage.artifacts import ArtifactStore, Manifest
from spinmeround.tasks.dataset.lineage import changed_fields
from spinmeround.tasks.heads.review import load_review
from spinmeround.tasks.stage import GATE, BoundStage, Head

_SAMPLES = 100
_OF_THE_HEAD = ("seed", "decision")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage: how many are there and will be made; seconds of work and bytes, None where nothing tells."""

    stage: str
    there: int
    to_make: int
    dropped: int
    seconds: float | None
    size: float | None
    basis: str


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Means of what the store has of a stage."""

    seconds: float
    size: float
    artifacts: int
    same: bool

    def __str__(self) -> str:
        return f"{self.artifacts} {'like these' if self.same else 'with other parameters'}"


@dataclass(frozen=True, kw_only=True)
class KeepShare:
    """The share of judged heads that is kept."""

    value: float
    judged: int
    ours: bool

    def __str__(self) -> str:
        if not self.judged:
            return "no head has been judged yet: all are counted as kept"
        whose = "of this profile" if self.ours else "of other profiles in the store"
        return f"{self.value:.0%} of {self.judged} judged heads {whose} are kept"


def keep_share(store: ArtifactStore, verdicts: Sequence[bool]) -> KeepShare:
    """From the verdicts on the profile's own heads (kept or not); else from others in the store."""
    if verdicts:
        return KeepShare(value=sum(verdicts) / len(verdicts), judged=len(verdicts), ours=True)
    others = [load_review(store.open(GATE, key).path).keep for key in _spread(_keys(store, GATE))]
    return KeepShare(value=sum(others) / len(others) if others else 1.0, judged=len(others), ours=False)


def estimate(
    store: ArtifactStore,
    stages: Sequence[BoundStage],
    heads: Sequence[Head],
    keys: Mapping[str, Mapping[str, str]],
    verdicts: Mapping[str, bool | None],
) -> tuple[list[Row], KeepShare]:
    """A row for each stage; `verdicts` by head say whether it is kept, None where nothing has judged it yet."""
    share = keep_share(store, [verdict for verdict in verdicts.values() if verdict is not None])
    given_up = {(failure.stage, failure.key) for failure in store.failures()}
    lost: set[str] = set()
    rows = []
    for bound in stages:
        stage = bound.stage
        there = set(_keys(store, stage.name))
        lost |= {head.id for head in heads if (stage.name, keys[head.id][stage.name]) in given_up}
        missing = [head for head in heads if keys[head.id][stage.name] not in there and head.id not in lost]
        sure = [head for head in missing if not stage.gated or verdicts[head.id]]
        unsure = [head for head in missing if stage.gated and verdicts[head.id] is None]
        to_make = len(sure) + round(share.value * len(unsure))
        basis = _basis(store, bound, heads[0]) if to_make else None
        rows.append(
            Row(
                stage=stage.name,
                there=sum(keys[head.id][stage.name] in there for head in heads),
                to_make=to_make,
                dropped=len(missing) - to_make,
                seconds=basis.seconds * to_make if basis else None if to_make else 0.0,
                size=basis.size * to_make if basis else None if to_make else 0.0,
                basis=str(basis) if basis else "none yet" if to_make else "",
            )
        )
    return rows, share


def _basis(store: ArtifactStore, bound: BoundStage, head: Head) -> Basis | None:
    name = bound.stage.name
    manifests = [found for key in _spread(_keys(store, name)) if (found := _readable(store, name, key))]
    asked = _of_the_profile(bound.identity(head))
    same = [found for found in manifests if not any(changed_fields(asked, _of_the_profile(found.params)))]
    chosen = same or manifests
    if not chosen:
        return None
    return Basis(
        seconds=sum(found.duration_s for found in chosen) / len(chosen),
        size=sum(found.size for found in chosen) / len(chosen),
        artifacts=len(chosen),
        same=bool(same),
    )


def _keys(store: ArtifactStore, stage: str) -> list[str]:
    return [entry.key for entry in store.backend.entries(stage)]


def _spread(keys: Sequence[str]) -> Sequence[str]:
    """Some of them, evenly chosen."""
    return keys[:: max(1, len(keys) // _SAMPLES)][:_SAMPLES]


def _of_the_profile(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in _OF_THE_HEAD}


def _readable(store: ArtifactStore, stage: str, key: str) -> Manifest | None:
    try:
        return store.manifest(stage, key)
    except ValueError:
        return None
