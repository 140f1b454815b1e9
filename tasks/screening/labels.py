"""Labels of heads by a person who does not see the verdicts: a file in the run's folder, and how the heads were drawn.

    {"schema_version": 1,
     "generator": {"name": "procedural", "options": {}, "fingerprint": "procedural-3-..."},
     "rounds": [{"order": "random", "seed": 0, "heads": 1000, "began": "2026-11-22T21:04:55Z"}],
     "labels": {"procedural-000017": {"label": "drop", "marked": true, "round": 0, "time": "2026-11-22T21:05:02Z"}}}

A round is one way to draw heads: `random` from all heads of the run, or `uncertain` by the distance to the threshold
of a learned verdict. All labels train a verdict, but only those of random rounds estimate its error rates. A head that
was passed without a mark is `passed` until the person presses *Done*, which turns it into `keep` with `marked` false.
Labels change no dataset: that is what the decisions of a review do.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from spinmeround.storage.documents import without_mark
from spinmeround.storage.errors import ConfigError, validation_message
from spinmeround.storage.manifests import stated_version
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.screening.decisions import GeneratorId, Time, describe_generator, read_existing, update_file

SCHEMA_VERSION = 1
Order = Literal["random", "uncertain"]
Mark = Literal["keep", "drop", "passed"]


class Round(FrozenModel):
    """How the heads of a round were drawn: `heads` is the number that they were drawn from."""

    order: Order
    seed: int = Field(ge=0)
    heads: int = Field(ge=1)
    began: Time
    verdict: str = Field("", description="Fingerprint of the verdict that an uncertain round is ordered by")

    def same_draw(self, other: "Round") -> bool:
        """Whether both rounds draw the same heads in the same order."""
        return self.model_copy(update={"began": other.began}) == other


class HeadLabel(FrozenModel):
    """A person's label of a head; `marked` is false if the head was shown and not marked."""

    label: Mark
    marked: bool
    round: int = Field(ge=0)
    time: Time


class Labels(FrozenModel):
    """The content of a labels file."""

    schema_version: Literal[1] = 1
    generator: GeneratorId
    rounds: tuple[Round, ...] = ()
    labels: dict[str, HeadLabel] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rounds_exist(self) -> Self:
        for name, each in self.labels.items():
            if each.round >= len(self.rounds):
                raise ValueError(f"labels.{name}.round: expected one of {len(self.rounds)} rounds, got {each.round}")
        return self

    def with_round(self, drawn: Round) -> tuple["Labels", int]:
        """A copy that contains this round, and its index; a round with the same draw is continued."""
        for at, each in enumerate(self.rounds):
            if each.same_draw(drawn):
                return self, at
        return self.model_copy(update={"rounds": (*self.rounds, drawn)}), len(self.rounds)

    def with_label(self, head: str, mark: Mark | Literal["none"], at: int) -> "Labels":
        """A copy with this label, given in round `at`; "none" removes the label of the head."""
        labels = {name: each for name, each in self.labels.items() if name != head}
        if mark != "none":
            labels[head] = HeadLabel(label=mark, marked=mark != "passed", round=at, time=datetime.now(UTC))
        return self.model_copy(update={"labels": labels})

    def done(self) -> "Labels":
        """A copy in which every passed head is kept."""
        labels = {
            name: each if each.label != "passed" else each.model_copy(update={"label": "keep"})
            for name, each in self.labels.items()
        }
        return self.model_copy(update={"labels": labels})

    def defective(self) -> dict[str, bool]:
        """Whether each labelled head is defective, by id; heads that are only passed have no label yet."""
        return {name: each.label == "drop" for name, each in self.labels.items() if each.label != "passed"}

    def drawn_at_random(self, head: str) -> bool:
        """Whether a labelled head was drawn at random."""
        return self.rounds[self.labels[head].round].order == "random"

    def to_json(self) -> bytes:
        """The content of the file."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def random_order(heads: Sequence[str], labels: Labels, seed: int) -> list[str]:
    """The heads in random order, without those that a random round has labelled.

    A head that an uncertain round has labelled is shown again, because a random sample must not depend on a verdict.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(heads))
    return [
        name
        for name in (sorted(heads)[at] for at in order)
        if name not in labels.labels or not labels.drawn_at_random(name)
    ]


def uncertain_order(distances: Mapping[str, float], labels: Labels) -> list[str]:
    """The heads without a label, nearest to the threshold first; `distances` are in log-odds, by id."""
    return sorted(distances.keys() - labels.labels.keys(), key=lambda name: (abs(distances[name]), name))


def is_labels_file(data: bytes) -> bool:
    """Whether the content of a file is that of a labels file rather than of a decisions file."""
    try:
        found = json.loads(without_mark(data))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "labels" in found and "decisions" not in found


def load_labels(path: Path, generator: GeneratorId) -> Labels:
    """The labels in a file; no labels if it does not exist. Raises as `parse_labels` and `decisions.read_existing`."""
    data = read_existing(path, "labels")
    return Labels(generator=generator) if data is None else parse_labels(data, generator, path)


def parse_labels(data: bytes, generator: GeneratorId, path: Path) -> Labels:
    """The labels in the content of a file.

    Raises ConfigError for content that is invalid, of a newer schema, or about the heads of another generator.
    """
    data = without_mark(data)
    if (newest := stated_version(data)) > SCHEMA_VERSION:
        raise ConfigError(
            f"labels {path}: schema version {newest}, this software reads up to {SCHEMA_VERSION}; use a newer version"
        )
    try:
        found = Labels.model_validate_json(data)
    except ValidationError as error:
        raise ConfigError(
            f"labels {path}: expected a file written by 'spinmeround screen label', found "
            f"{validation_message(error)}; repair the file or move it away"
        ) from error
    if (found.generator.name, found.generator.fingerprint) != (generator.name, generator.fingerprint):
        raise ConfigError(
            f"labels {path}: expected labels of heads of {describe_generator(generator)}, found heads of "
            f"{describe_generator(found.generator)}; move the file away and label these heads"
        )
    return found


def begin_round(path: Path, generator: GeneratorId, drawn: Round) -> tuple[Labels, int]:
    """The content of the file and the index of this round in it. Writes nothing before the first label."""
    return load_labels(path, generator).with_round(drawn)


def label_head(path: Path, generator: GeneratorId, drawn: Round, head: str, mark: Mark | Literal["none"]) -> Labels:
    """Write a label of this round, and return the new content of the file.

    Raises ConfigError as `parse_labels`, StorageUnavailable if the file is not writable.
    """

    def change(before: Labels) -> Labels:
        found, at = before.with_round(drawn)
        return found.with_label(head, mark, at)

    return _update(path, generator, change)


def finish_labels(path: Path, generator: GeneratorId) -> Labels:
    """Keep every head that was passed without a mark, and return the new content. Raises as `label_head`."""
    return _update(path, generator, Labels.done)


def tally(labels: Iterable[HeadLabel]) -> dict[Mark, int]:
    """Number of heads with each label."""
    found = [each.label for each in labels]
    return {mark: found.count(mark) for mark in ("keep", "drop", "passed")}


def _update(path: Path, generator: GeneratorId, change: Callable[[Labels], Labels]) -> Labels:
    return update_file(path, lambda: load_labels(path, generator), change, Labels.to_json)
