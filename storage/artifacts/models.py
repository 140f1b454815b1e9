"""The registry of trained models in a store: names, numbered versions, and aliases such as `production`.

    <root>/models/<name>.json   the versions of a model, the history of its aliases, and people's answers

A version names the artifact of a training, which garbage collection keeps from then on, and never changes. An alias
points to one version at a time. The file is sealed and replaced atomically, under the lock of its model; whoever adds a
version also holds the lock of garbage collection, so that nothing of it is removed in the meantime.
"""

import getpass
import platform
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from spinmeround.storage.artifacts.backend import GC_LOCK
from spinmeround.storage.artifacts.manifest import Manifest
from spinmeround.storage.artifacts.store import Artifact, ArtifactStore
from spinmeround.storage.errors import CorruptArtifact, StoreError, environment_errors, shortened, validation_message
from spinmeround.storage.hashing import sha256_listing
from spinmeround.storage.manifests import Sha256, stated_version
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed

FOLDER = "models"
SCHEMA_VERSION = 1
MODEL_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
ALIAS_NAME = r"^[a-z][a-z0-9_-]{0,63}$"
"""An alias begins with a letter, so that it is no number of a version."""
_PIPELINE = "pipeline/"

Number = Annotated[int, Field(ge=1)]
Alias = Annotated[str, Field(pattern=ALIAS_NAME)]


class AliasMoved(StoreError):
    """An alias that has been moved since its version was read."""


class Stamp(FrozenModel):
    """When something was done, by whom, and in which flow run, if in one."""

    time: datetime
    by: str
    flow_run: str = ""


class ModelVersion(FrozenModel):
    """One version: the training's artifact, what it was trained and evaluated on, and its card in Markdown.

    `pipeline` is the digest of the pipeline's files, `dataset` that of the training's dataset (None if it had none),
    `evaluation` the key of the evaluation whose means are `metrics`, `evaluated_on` the digest of its dataset.
    """

    number: Number
    stage: str
    key: Sha256
    pipeline: Sha256
    dataset: Sha256 | None
    evaluation: Sha256
    evaluated_on: Sha256
    metrics: dict[str, float | None]
    card: str
    registered: Stamp


class AliasMove(FrozenModel):
    """An alias got this version."""

    version: Number
    reason: str
    moved: Stamp


class Answer(FrozenModel):
    """A person's answer to whether an alias may be moved to a version."""

    version: Number
    alias: Alias
    approved: bool
    comment: str = ""
    given: Stamp
    moves: int = Field(0, ge=0, description="Moves of the alias before the answer; after another one it counts no more")


class RegisteredModel(FrozenModel):
    """All of one model. The last move of an alias tells the version that it points to."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=MODEL_NAME)
    versions: tuple[ModelVersion, ...] = ()
    aliases: dict[Alias, Annotated[tuple[AliasMove, ...], Field(min_length=1)]] = Field(default_factory=dict)
    answers: tuple[Answer, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "RegisteredModel":
        numbers = [version.number for version in self.versions]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"versions: expected the numbers 1, 2 and so on, found {shortened(str(numbers), 80)}")
        for alias, moves in self.aliases.items():
            if unknown := [move.version for move in moves if move.version > len(numbers)]:
                raise ValueError(f"aliases.{alias}: expected one of {len(numbers)} versions, found {unknown[0]}")
        if unknown := [answer.version for answer in self.answers if answer.version > len(numbers)]:
            raise ValueError(f"answers: expected one of {len(numbers)} versions, found {unknown[0]}")
        return self

    def version(self, number: int) -> ModelVersion:
        """The version of this number. Raises StoreError if there is none."""
        if not 1 <= number <= len(self.versions):
            known = f"1 to {len(self.versions)}" if self.versions else "none"
            raise StoreError(f"model {self.name}@{number}: expected a registered version, found {known}")
        return self.versions[number - 1]

    def at(self, alias: str) -> ModelVersion | None:
        """The version that an alias points to; None for an unknown alias."""
        moves = self.aliases.get(alias)
        return self.versions[moves[-1].version - 1] if moves else None

    def aliases_of(self, number: int) -> list[str]:
        """The aliases that point to a version, sorted."""
        return sorted(alias for alias, moves in self.aliases.items() if moves[-1].version == number)

    def answer(self, number: int, alias: str) -> Answer | None:
        """The last answer to whether the alias may be moved to this version, if it has not been moved since."""
        asked = (number, alias, len(self.aliases.get(alias, ())))
        found = (each for each in reversed(self.answers) if (each.version, each.alias, each.moves) == asked)
        return next(found, None)


class ModelRegistry:
    """The models in a store; any number of threads and processes may share it."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        with environment_errors(Path(self.store.root)):
            found = self.store.backend.blobs.names(FOLDER)
        return sorted(name.removeprefix(f"{FOLDER}/")[: -len(".json")] for name in found if name.endswith(".json"))

    def get(self, name: str) -> RegisteredModel:
        """A model; one without versions if it was never registered.

        Raises StoreError for a file that is damaged or of a newer version of the software, and for an invalid name.
        """
        check_name(name)
        place = f"{FOLDER}/{name}.json"
        with environment_errors(Path(self.store.root)):
            data = self.store.backend.blobs.get(place)
        return RegisteredModel(name=name) if data is None else _parsed(data, name, f"{self.store.root}/{place}")

    def add(
        self,
        name: str,
        *,
        stage: str,
        key: str,
        evaluation: str,
        evaluated_on: str,
        metrics: Mapping[str, float | None],
        card: str,
        registered: Stamp,
    ) -> ModelVersion:
        """Add the training `key` of `stage` as a version; the one that has this training and evaluation, if any, stays.

        Raises MissingArtifact if the store lacks the training, StoreError if it has no pipeline.
        """
        with self.store.named_lock(GC_LOCK, f"artifact store {self.store.root}"):
            manifest = self.store.manifest(stage, key)
            self.store.manifest("evaluate", evaluation)
            made: list[ModelVersion] = []

            def change(model: RegisteredModel) -> RegisteredModel:
                same = (each for each in model.versions if (each.key, each.evaluation) == (key, evaluation))
                if (found := next(same, None)) is not None:
                    made.append(found)
                    return model
                version = ModelVersion(
                    number=len(model.versions) + 1,
                    stage=stage,
                    key=key,
                    pipeline=pipeline_digest(manifest),
                    dataset=manifest.inputs.get("dataset"),
                    evaluation=evaluation,
                    evaluated_on=evaluated_on,
                    metrics=dict(metrics),
                    card=card,
                    registered=registered,
                )
                made.append(version)
                return model.model_copy(update={"versions": (*model.versions, version)})

            self._change(name, change)
        return made[0]

    def move_alias(
        self,
        name: str,
        alias: str,
        number: int,
        *,
        reason: str,
        moved: Stamp,
        only_from: int | EllipsisType | None = ...,
    ) -> None:
        """Let an alias point to a version; nothing changes if it does.

        With `only_from`, the number that it must point to now, or None for nothing. Raises AliasMoved if it points to
        another version, StoreError for an unknown version or an invalid alias.
        """
        check_alias(alias)

        def change(model: RegisteredModel) -> RegisteredModel:
            model.version(number)
            before = model.at(alias)
            found = before and before.number
            if only_from is not ... and found != only_from:
                raise AliasMoved(
                    f"alias {alias} of model {name}: expected version {only_from or 'none'}, found {found or 'none'}, "
                    "since it was moved in the meantime; compare again"
                )
            if found == number:
                return model
            move = AliasMove(version=number, reason=reason, moved=moved)
            moves = (*model.aliases.get(alias, ()), move)
            return model.model_copy(update={"aliases": {**model.aliases, alias: moves}})

        self._change(name, change)

    def record_answer(self, name: str, answer: Answer) -> None:
        """Add a person's answer. Raises StoreError for an unknown version."""

        def change(model: RegisteredModel) -> RegisteredModel:
            model.version(answer.version)
            given = answer.model_copy(update={"moves": len(model.aliases.get(answer.alias, ()))})
            return model.model_copy(update={"answers": (*model.answers, given)})

        self._change(name, change)

    def find(self, text: str, default: str) -> tuple[str, ModelVersion]:
        """Name and version of `NAME@VERSION`, `NAME@ALIAS`, or the alias `ALIAS` of the model `default`.

        Raises StoreError, which lists what is registered, if nothing has this name.
        """
        name, at, reference = text.rpartition("@")
        name = name if at else default
        check_name(name)
        model = self.get(name)
        version = model.version(int(reference)) if re.fullmatch("[0-9]{1,9}", reference) and at else None
        version = version or model.at(reference)
        if version is None:
            aliases = ", ".join(f"{name}@{alias}" for alias in sorted(model.aliases))
            known = f"{len(model.versions)} versions and the aliases {aliases or 'none'}" if model.versions else "none"
            raise StoreError(
                f"model {shortened(repr(text), 80)}: expected an alias or NAME@VERSION in {self.store.root}, found "
                f"{known} of {name}; 'spinmeround models list' lists all models"
            )
        return name, version

    def open(self, version: ModelVersion) -> Path:
        """The local folder of a version's pipeline, every byte of which is verified.

        Raises MissingArtifact, or CorruptArtifact if it is not the pipeline that was registered.
        """
        artifact: Artifact = self.store.verify(version.stage, version.key)
        if (found := pipeline_digest(artifact.manifest)) != version.pipeline:
            raise CorruptArtifact(
                f"artifact {version.stage}/{version.key[:12]}: expected the pipeline {version.pipeline[:12]} that was "
                f"registered, found {found[:12]}; register the training again with 'spinmeround models promote'"
            )
        return artifact.path / "pipeline"

    def _change(self, name: str, change: Callable[[RegisteredModel], RegisteredModel]) -> None:
        """Replace a model's file by what `change` makes of it, while nobody else does."""
        check_name(name)
        with self.store.named_lock(f"{FOLDER}-{name}", f"model {name}"):
            before = self.get(name)
            after = change(before)
            if after != before:
                with environment_errors(Path(self.store.root)):
                    self.store.backend.blobs.put(f"{FOLDER}/{name}.json", sealed_json(after))


def pipeline_digest(manifest: Manifest) -> str:
    """One digest of the pipeline's files in the artifact of a training. Raises StoreError if it has none."""
    files = {name: record.sha256 for name, record in manifest.files.items() if name.startswith(_PIPELINE)}
    if not files:
        raise StoreError(
            f"artifact {manifest.stage}/{manifest.key[:12]}: expected a training with a pipeline, found none; a model "
            "of several views has one"
        )
    return sha256_listing(files)


def registered_keys(store: ArtifactStore) -> set[str]:
    """Keys of the trainings and evaluations of all versions. Raises StoreError for a damaged file."""
    registry = ModelRegistry(store)
    versions = (version for name in registry.names() for version in registry.get(name).versions)
    return {key for version in versions for key in (version.key, version.evaluation)}


def stamp(flow_run: str = "") -> Stamp:
    """Now, by the user of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = "unknown"
    return Stamp(time=datetime.now(UTC).replace(microsecond=0), by=f"{user}@{platform.node()}", flow_run=flow_run)


def check_name(name: str) -> None:
    """Raises StoreError for a name of a model that is not a plain one."""
    _check(name, MODEL_NAME, "model")


def check_alias(alias: str) -> None:
    """Raises StoreError for an alias that is not a plain name, or begins with a digit."""
    _check(alias, ALIAS_NAME, "alias")


def _check(name: str, pattern: str, what: str) -> None:
    if not re.fullmatch(pattern, name):
        begin = "a letter" if what == "alias" else "a letter or digit"
        raise StoreError(
            f"{what} {shortened(repr(name), 80)}: expected up to 64 lower-case letters, digits, - and _, the first "
            f"{begin}"
        )


def _parsed(data: bytes, name: str, place: str) -> RegisteredModel:
    remedy = "restore it from a copy, or remove it and register the model again with 'spinmeround models promote'"
    try:
        found = RegisteredModel.model_validate(unsealed(data))
    except ValueError as error:
        if (newest := stated_version(data)) > SCHEMA_VERSION:
            raise StoreError(
                f"{place}: schema version {newest}, this software reads up to {SCHEMA_VERSION}; use a newer version"
            ) from None
        raise StoreError(
            f"{place}: expected the record of a model, found {validation_message(error)}; {remedy}"
        ) from error
    if found.name != name:
        raise StoreError(f"{place}: expected the record of model {name}, found that of {found.name}; {remedy}")
    return found
