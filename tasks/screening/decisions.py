"""A person's decisions on heads: a file beside the run that outlives every rerun, and is merged, never overwritten.

    {"schema_version": 1,
     "generator": {"name": "procedural", "options": {}, "fingerprint": "procedural-3-..."},
     "decisions": {"procedural-000017": {"decision": "drop", "note": "two noses", "time": "2026-11-22T21:04:55.123Z"}},
     "reviewed": {"<digest of the screen's verdicts>": "2026-11-22T21:30:00.000Z"}}

The generator stands in the file because ids alone are not heads: another generator's 17 is somebody else.
Of two decisions on one head the newer one holds; "none" is one that was taken back, and is kept so that
merging an older file does not bring it back. `reviewed` remembers the verdicts that a person has seen and
let pass. Only "keep" and "drop" ever reach a key (`tasks.stage.Head.decision`), never notes or times.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import flocked, make_folder, write_atomic
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.manifests import stated_version
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.stage import Head, Ruling

SCHEMA_VERSION = 1
Choice = Ruling | Literal["none"]
_PATIENCE_S = 30.0


class GeneratorId(FrozenModel):
    """Whose heads were decided on. The fingerprint tells heads apart; the options, as they were typed, only inform."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    fingerprint: str


class Decision(FrozenModel):
    """What a person said of a head, why (in their words, may be empty), and when."""

    decision: Choice
    note: str = Field("", max_length=2000)
    time: AwareDatetime


class Decisions(FrozenModel):
    """The content of a decisions file."""

    schema_version: Literal[1] = 1
    generator: GeneratorId
    decisions: dict[str, Decision] = Field(default_factory=dict)
    reviewed: dict[str, AwareDatetime] = Field(default_factory=dict)

    def rulings(self) -> dict[str, Ruling]:
        """The decisions that stand, by id of the head."""
        return {name: each.decision for name, each in self.decisions.items() if each.decision != "none"}

    def merged(self, other: "Decisions") -> "Decisions":
        """Both files' decisions; of two on one head the newer, and this file's of two at one time."""
        both = dict(self.decisions)
        for name, theirs in other.decisions.items():
            if name not in both or both[name].time < theirs.time:
                both[name] = theirs
        return self.model_copy(update={"decisions": both, "reviewed": {**other.reviewed, **self.reviewed}})

    def with_new(self, said: Mapping[str, tuple[Choice, str]]) -> "Decisions":
        """With (choice, note) of heads by id as the newest word on them, also where a fast clock wrote the last one."""
        now = datetime.now(UTC)
        made = {
            name: Decision(decision=choice, note=note, time=_after(self.decisions.get(name), now))
            for name, (choice, note) in said.items()
        }
        return self.model_copy(update={"decisions": {**self.decisions, **made}})

    def to_json(self) -> bytes:
        """As it is written to disk."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def _after(earlier: Decision | None, now: datetime) -> datetime:
    return now if earlier is None else max(now, earlier.time + timedelta(milliseconds=1))


def generator_id(sections: Mapping[str, Any]) -> GeneratorId:
    """Of the generator of a profile's `generator` section."""
    config, generator = sections["generator"], generator_of(sections)
    options = config.key_values()["options"]
    return GeneratorId(name=generator.name, options=options, fingerprint=generator.fingerprint)


def load_decisions(path: Path, generator: GeneratorId) -> Decisions:
    """The decisions in a file; none where there is no file.

    Raises ConfigError for a file that is broken, too new, or about another generator's heads.
    """
    try:
        with environment_errors(path):
            data = path.read_bytes()
    except FileNotFoundError:
        return Decisions(generator=generator)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise ConfigError(f"decisions {path}: expected a file, found {error.strerror}; name another path") from error
    return parse_decisions(data, generator, path)


def parse_decisions(data: bytes, generator: GeneratorId, path: Path) -> Decisions:
    """The decisions in a file's bytes; raises as `load_decisions`."""
    if (newest := stated_version(data)) > SCHEMA_VERSION:
        raise ConfigError(
            f"decisions {path}: schema version {newest}, this software reads up to {SCHEMA_VERSION}; use a newer one"
        )
    try:
        found = Decisions.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"decisions {path}: expected what 'spinmeround review' writes, but {where}: {first['msg']}; "
            "mend the file or move it away"
        ) from error
    if (found.generator.name, found.generator.fingerprint) != (generator.name, generator.fingerprint):
        raise ConfigError(
            f"decisions {path}: expected decisions on heads of {_told(generator)}, found those of "
            f"{_told(found.generator)}, whose heads are others; move the file away and review these heads"
        )
    return found


def read_decisions(path: Path, generator: GeneratorId) -> Decisions:
    """The decisions in a file that must be there; raises ConfigError as `load_decisions` and where it is not."""
    try:
        return parse_decisions(path.expanduser().read_bytes(), generator, path)
    except OSError as error:
        raise ConfigError(f"decisions {path}: expected a decisions file, found {error.strerror}") from error


def update_decisions(path: Path, generator: GeneratorId, change: Callable[[Decisions], Decisions]) -> Decisions:
    """Change the file, under its lock, from what stands in it at that moment; returns what stands there now.

    Raises ConfigError as `load_decisions` does, StorageUnavailable where the file can't be written.
    """
    with environment_errors(path):
        make_folder(path.parent)
        with flocked(path.with_name(f".{path.name}.lock"), timeout_s=_PATIENCE_S):
            before = load_decisions(path, generator)
            after = change(before)
            if after != before:
                write_atomic(path, after.to_json())
    return after


def merge_decisions(path: Path, news: Decisions) -> Decisions:
    """Merge other decisions into the file; raises as `update_decisions`."""
    return update_decisions(path, news.generator, lambda before: before.merged(news))


def record(path: Path, generator: GeneratorId, rulings: Mapping[str, Choice], note: str = "") -> Decisions:
    """Write down what a person decides now: newer than what the file says, even if that was written by a fast clock."""

    def change(before: Decisions) -> Decisions:
        return before.with_new({name: (choice, note) for name, choice in rulings.items()})

    return update_decisions(path, generator, change)


def record_unless_newer(
    path: Path, generator: GeneratorId, head: str, said: tuple[Choice, str], seen: datetime | None
) -> Decision:
    """Write down (choice, note) on a head, unless the file has a decision newer than what the person saw.

    `seen` is the time of the decision that stood there when the person decided, None where there was none.
    Returns the decision that stands in the file now; raises as `update_decisions`.
    """

    def change(before: Decisions) -> Decisions:
        there = before.decisions.get(head)
        newer = there is not None and (seen is None or there.time > seen)
        return before if newer else before.with_new({head: said})

    return update_decisions(path, generator, change).decisions[head]


def mark_reviewed(path: Path, generator: GeneratorId, digest: str) -> Decisions:
    """Remember that a person has seen these verdicts (`review_digest`) and lets them pass as decided."""
    marked = {digest: datetime.now(UTC)}
    return update_decisions(
        path, generator, lambda before: before.model_copy(update={"reviewed": {**before.reviewed, **marked}})
    )


def review_digest(verdicts: Mapping[str, Verdict]) -> str:
    """Stands for exactly these verdicts of the screen, by id of the head: keep or drop, and why."""
    return sha256_json({name: [verdict.keep, list(verdict.reasons)] for name, verdict in verdicts.items()})


def is_reviewed(verdicts: Mapping[str, Verdict], decisions: Decisions) -> bool:
    """Whether a person has let exactly these verdicts pass, or has decided on every head."""
    return review_digest(verdicts) in decisions.reviewed or not verdicts.keys() - decisions.rulings().keys()


def with_decisions(heads: Iterable[Head], decisions: Decisions) -> list[Head]:
    """The heads with the decisions on them."""
    rulings = decisions.rulings()
    return [Head(id=head.id, seed=head.seed, decision=rulings.get(head.id)) for head in heads]


def unknown_ids(heads: Iterable[Head], decisions: Decisions) -> list[str]:
    """Ids that were decided on but are not asked for."""
    return sorted(decisions.rulings().keys() - {head.id for head in heads})


def _told(generator: GeneratorId) -> str:
    options = f" with {json.dumps(generator.options, sort_keys=True)}" if generator.options else ""
    return f"{generator.name} ({generator.fingerprint}{options})"
