"""Estimates of a build before it runs: artifacts to make, time and disk.

Times and sizes are means over artifacts of the same stage in the store, with the same parameters if the store has
any, otherwise with other parameters; each row says which. Heads without a verdict count by the share of kept heads
among those with one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinmeround.storage.artifacts import ArtifactStore, Manifest
from spinmeround.tasks.dataset.lineage import changed_fields
from spinmeround.tasks.heads.review import load_review
from spinmeround.tasks.stage import GATE, BoundStage, Head

_SAMPLES = 100
_HEAD_PARAMS = ("seed", "decision")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage: numbers of existing artifacts, of artifacts to make and of dropped heads, and estimates.

    `seconds` is the work of one worker, `size` is in bytes; both are None if the store has no artifact of the stage.
    """

    stage: str
    existing: int
    to_make: int
    dropped: int
    seconds: float | None
    size: float | None
    basis: str


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Means over artifacts of a stage in the store."""

    seconds: float
    size: float
    artifacts: int
    same_params: bool

    def __str__(self) -> str:
        return f"{self.artifacts} {'with the same parameters' if self.same_params else 'with other parameters'}"


@dataclass(frozen=True, kw_only=True)
class KeepShare:
    """The share of kept heads among those with a verdict."""

    value: float
    judged: int
    own: bool

    def __str__(self) -> str:
        if not self.judged:
            return "no head has a verdict yet: all count as kept"
        source = "of this profile" if self.own else "of other profiles in the store"
        return f"{self.value:.0%} of {self.judged} heads with a verdict {source} are kept"


def keep_share(store: ArtifactStore, verdicts: Sequence[bool]) -> KeepShare:
    """From the verdicts on the profile's heads (kept or not) or, if there are none, from reviews in the store."""
    if verdicts:
        return KeepShare(value=sum(verdicts) / len(verdicts), judged=len(verdicts), own=True)
    others = [load_review(store.verify(GATE, key).path).keep for key in _evenly_spaced(_keys(store, GATE))]
    return KeepShare(value=sum(others) / len(others) if others else 1.0, judged=len(others), own=False)


def estimate(
    store: ArtifactStore,
    stages: Sequence[BoundStage[Any]],
    heads: Sequence[Head],
    keys: Mapping[str, Mapping[str, str]],
    verdicts: Mapping[str, bool | None],
) -> tuple[list[Row], KeepShare]:
    """A row for each stage; `verdicts` maps each head to whether it is kept, None without a verdict."""
    share = keep_share(store, [verdict for verdict in verdicts.values() if verdict is not None])
    quarantined = {(failure.stage, failure.key) for failure in store.failures()}
    lost: set[str] = set()
    rows = []
    for bound in stages:
        stage = bound.stage
        existing = set(_keys(store, stage.name))
        lost |= {head.id for head in heads if (stage.name, keys[head.id][stage.name]) in quarantined}
        missing = [head for head in heads if keys[head.id][stage.name] not in existing and head.id not in lost]
        sure = [head for head in missing if not stage.gated or verdicts[head.id]]
        unsure = [head for head in missing if stage.gated and verdicts[head.id] is None]
        to_make = len(sure) + round(share.value * len(unsure))
        basis = _basis(store, bound, heads[0]) if to_make else None
        rows.append(
            Row(
                stage=stage.name,
                existing=sum(keys[head.id][stage.name] in existing for head in heads),
                to_make=to_make,
                dropped=len(missing) - to_make,
                seconds=basis.seconds * to_make if basis else None if to_make else 0.0,
                size=basis.size * to_make if basis else None if to_make else 0.0,
                basis=str(basis) if basis else "none yet" if to_make else "",
            )
        )
    return rows, share


def _basis(store: ArtifactStore, bound: BoundStage[Any], head: Head) -> Basis | None:
    name = bound.stage.name
    manifests = [found for key in _evenly_spaced(_keys(store, name)) if (found := _readable(store, name, key))]
    expected = _without_head(bound.key_params(head))
    same = [found for found in manifests if not any(changed_fields(expected, _without_head(found.params)))]
    chosen = same or manifests
    if not chosen:
        return None
    return Basis(
        seconds=sum(found.duration_s for found in chosen) / len(chosen),
        size=sum(found.size for found in chosen) / len(chosen),
        artifacts=len(chosen),
        same_params=bool(same),
    )


def _keys(store: ArtifactStore, stage: str) -> list[str]:
    return [entry.key for entry in store.backend.entries(stage)]


def _evenly_spaced(keys: Sequence[str]) -> Sequence[str]:
    """At most `_SAMPLES` of them, evenly spaced."""
    return keys[:: max(1, len(keys) // _SAMPLES)][:_SAMPLES]


def _without_head(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in _HEAD_PARAMS}


def _readable(store: ArtifactStore, stage: str, key: str) -> Manifest | None:
    try:
        return store.manifest(stage, key)
    except ValueError:
        return None
