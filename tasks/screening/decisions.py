"""Manual decisions on heads: a file in the run's folder that survives reruns and is merged, never overwritten.

    {"schema_version": 1,
     "generator": {"name": "procedural", "options": {}, "fingerprint": "procedural-3-..."},
     "decisions": {"procedural-000017": {"decision": "drop", "note": "two noses", "time": "2026-11-22T21:04:55.123Z"}},
     "reviewed": {"<digest of the screen's verdicts>": "2026-11-22T21:30:00.000Z"}}

The file names the generator, because the same id is a different head in another generator. Of two decisions on one head
the newer applies. "none" retracts a decision; it stays in the file, so merging an older file does not restore the
decision. `reviewed` lists the verdicts that a person has accepted. Only "keep" and "drop" enter an artifact key
(`tasks.stage.Head.decision`), never notes or times.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.documents import without_mark
from spinmeround.storage.errors import (
    ConfigError,
    environment_errors,
    one_line,
    shortened,
    validation_message,
)
from spinmeround.storage.files import flocked, make_folder, write_atomic
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.manifests import stated_version
from spinmeround.storage.records import FrozenModel, Options
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.stage import Decision, Head

SCHEMA_VERSION = 1
Choice = Decision | Literal["none"]
_LOCK_TIMEOUT_S = 30.0
Content = TypeVar("Content")
Time = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
"""A time that has a later one in every time zone."""


class GeneratorId(FrozenModel):
    """The generator of the heads. The fingerprint identifies it; the options are for information."""

    name: str
    options: Options = Field(default_factory=dict)
    fingerprint: str


class DecisionEntry(FrozenModel):
    """A decision on a head, with a note (may be empty) and its time."""

    decision: Choice
    note: str = Field("", max_length=2000)
    time: Time


class Decisions(FrozenModel):
    """The content of a decisions file."""

    schema_version: Literal[1] = 1
    generator: GeneratorId
    decisions: dict[str, DecisionEntry] = Field(default_factory=dict)
    reviewed: dict[str, Time] = Field(default_factory=dict)

    def active(self) -> dict[str, Decision]:
        """Decisions that are not retracted, by id."""
        return {name: each.decision for name, each in self.decisions.items() if each.decision != "none"}

    def merged(self, other: "Decisions") -> "Decisions":
        """The decisions of both files; of two on one head the newer, and of two at the same time that of this file."""
        both = dict(self.decisions)
        for name, theirs in other.decisions.items():
            if name not in both or both[name].time < theirs.time:
                both[name] = theirs
        return self.model_copy(update={"decisions": both, "reviewed": {**other.reviewed, **self.reviewed}})

    def with_new(self, choices: Mapping[str, tuple[Choice, str]]) -> "Decisions":
        """A copy with (choice, note) by id as the newest decisions, even if earlier ones have a time in the future."""
        now = datetime.now(UTC)
        new = {
            name: DecisionEntry(decision=choice, note=note, time=_after(self.decisions.get(name), now))
            for name, (choice, note) in choices.items()
        }
        return self.model_copy(update={"decisions": {**self.decisions, **new}})

    def to_json(self) -> bytes:
        """The content of the file."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _after(earlier: DecisionEntry | None, now: datetime) -> datetime:
    return now if earlier is None else max(now, earlier.time + timedelta(milliseconds=1))


def generator_id(config: GeneratorConfig) -> GeneratorId:
    """The id of the generator that a profile's `generator` section configures."""
    generator = generator_of(config)
    options = config.key_values()["options"]
    return GeneratorId(name=generator.name, options=options, fingerprint=generator.fingerprint)


def load_decisions(path: Path, generator: GeneratorId) -> Decisions:
    """The decisions in a file; no decisions if the file does not exist.

    Raises ConfigError for a file that is invalid, of a newer schema, or about the heads of another generator.
    """
    data = read_existing(path, "decisions")
    return Decisions(generator=generator) if data is None else parse_decisions(data, generator, path)


def read_existing(path: Path, what: str) -> bytes | None:
    """The content of a file; None if it does not exist.

    Raises ConfigError, which begins with `what`, for a path that can't be a file's, StorageUnavailable if it is not
    readable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except (IsADirectoryError, NotADirectoryError, ValueError) as error:  # ValueError: a name with a null byte
        found = getattr(error, "strerror", None) or one_line(error)
        raise ConfigError(f"{what} {path}: expected a file, found {found}; name another path") from error
    except OSError:
        with environment_errors(path):
            raise


def parse_decisions(data: bytes, generator: GeneratorId, path: Path) -> Decisions:
    """The decisions in the content of a file. Raises ConfigError as `load_decisions`."""
    data = without_mark(data)
    if (newest := stated_version(data)) > SCHEMA_VERSION:
        raise ConfigError(
            f"decisions {path}: schema version {newest}, this software reads up to {SCHEMA_VERSION}; "
            "use a newer version"
        )
    try:
        found = Decisions.model_validate_json(data)
    except ValidationError as error:
        raise ConfigError(
            f"decisions {path}: expected a file written by 'spinmeround review', found {validation_message(error)}; "
            "repair the file or move it away"
        ) from error
    if (found.generator.name, found.generator.fingerprint) != (generator.name, generator.fingerprint):
        raise ConfigError(
            f"decisions {path}: expected decisions on heads of {describe_generator(generator)}, found heads of "
            f"{describe_generator(found.generator)}; move the file away and review these heads"
        )
    return found


def read_decisions(path: Path, generator: GeneratorId) -> Decisions:
    """The decisions in an existing file. Raises ConfigError as `load_decisions`, and if the file does not exist."""
    try:
        data = path.expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in the name, the home of an unknown user
        reason = getattr(error, "strerror", None) or one_line(error, 120)
        raise ConfigError(f"decisions {path}: expected a decisions file, found {reason}") from error
    return parse_decisions(data, generator, path)


def update_decisions(path: Path, generator: GeneratorId, change: Callable[[Decisions], Decisions]) -> Decisions:
    """Apply `change` to the current content of the file, under its lock, and return the new content.

    Raises ConfigError as `load_decisions`, StorageUnavailable if the file is not writable.
    """
    return update_file(path, lambda: load_decisions(path, generator), change, Decisions.to_json)


def update_file(
    path: Path, load: Callable[[], Content], change: Callable[[Content], Content], to_json: Callable[[Content], bytes]
) -> Content:
    """Apply `change` to what `load` reads, under the file's lock, write it if it changed, and return it.

    Raises what `load` raises, StorageUnavailable if the file is not writable.
    """
    with environment_errors(path):
        make_folder(path.parent)
        with flocked(path.with_name(f".{path.name}.lock"), timeout_s=_LOCK_TIMEOUT_S):
            before = load()
            after = change(before)
            if after != before:
                write_atomic(path, to_json(after))
    return after


def merge_decisions(path: Path, other: Decisions) -> Decisions:
    """Merge other decisions into the file, and return its new content. Raises as `update_decisions`."""
    return update_decisions(path, other.generator, lambda before: before.merged(other))


def record(path: Path, generator: GeneratorId, choices: Mapping[str, Choice], note: str = "") -> Decisions:
    """Write decisions by id as the newest in the file, and return its new content. Raises as `update_decisions`."""

    def change(before: Decisions) -> Decisions:
        return before.with_new({name: (choice, note) for name, choice in choices.items()})

    return update_decisions(path, generator, change)


def record_unless_newer(
    path: Path, generator: GeneratorId, head: str, choice: tuple[Choice, str], seen: datetime | None
) -> DecisionEntry:
    """Write (choice, note) of a head, unless the file has a newer decision than the person saw.

    `seen` is the time of the decision that the person saw, None if there was none. Returns the decision that is in the
    file afterwards. Raises as `update_decisions`.
    """

    def change(before: Decisions) -> Decisions:
        current = before.decisions.get(head)
        newer = current is not None and (seen is None or current.time > seen)
        return before if newer else before.with_new({head: choice})

    return update_decisions(path, generator, change).decisions[head]


def mark_reviewed(path: Path, generator: GeneratorId, digest: str) -> Decisions:
    """Record that a person accepts the verdicts with this `review_digest`. Raises as `update_decisions`."""
    marked = {digest: datetime.now(UTC)}
    return update_decisions(
        path, generator, lambda before: before.model_copy(update={"reviewed": {**before.reviewed, **marked}})
    )


def review_digest(verdicts: Mapping[str, Verdict]) -> str:
    """Digest of verdicts by id: keep or drop, and the reasons."""
    return sha256_json({name: [verdict.keep, list(verdict.reasons)] for name, verdict in verdicts.items()})


def is_reviewed(verdicts: Mapping[str, Verdict], decisions: Decisions) -> bool:
    """Whether a person has accepted exactly these verdicts, or has decided on every head."""
    return review_digest(verdicts) in decisions.reviewed or not verdicts.keys() - decisions.active().keys()


def with_decisions(heads: Iterable[Head], decisions: Decisions) -> list[Head]:
    """The heads, each with its decision."""
    active = decisions.active()
    return [Head(id=head.id, seed=head.seed, decision=active.get(head.id)) for head in heads]


def unknown_ids(heads: Iterable[Head], decisions: Decisions) -> list[str]:
    """Ids with a decision that are not among the heads."""
    return sorted(decisions.active().keys() - {head.id for head in heads})


def describe_generator(generator: GeneratorId) -> str:
    """Name, fingerprint and options of a generator in one line."""
    options = f" with {json.dumps(generator.options, sort_keys=True, allow_nan=False)}" if generator.options else ""
    return shortened(f"{generator.name} ({generator.fingerprint}{options})", 300)
