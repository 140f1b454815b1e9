"""The registry of models: versions, aliases with a history, people's answers, and damaged files."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spinmeround.storage.artifacts import (
    AliasMoved,
    Answer,
    ArtifactStore,
    ModelRegistry,
    ModelVersion,
    find_garbage,
    register_run,
    remove_garbage,
    stamp,
)
from spinmeround.storage.errors import CorruptArtifact, MissingArtifact, StoreError
from tests.storage.artifacts.test_gc import existing, run_folder
from tests.support.artifacts import damage, key_of, put

DATASET = "d" * 64


def train(store: ArtifactStore, number: int) -> tuple[str, str]:
    """Keys of a training with a pipeline, and of its evaluation."""
    files = {"pipeline/model_index.json": b"{}", "pipeline/unet/weights.bin": bytes([number]), "training.json": b"{}"}
    training = put(store, "multi-view", number, {"dataset": DATASET, "latents": "e" * 64}, files)
    return training, put(store, "evaluate", number, {"dataset": DATASET, "multi-view": training})


def add(registry: ModelRegistry, number: int, name: str = "heads", **changes: Any) -> ModelVersion:
    """Register the training of this number."""
    training, evaluation = train(registry.store, number)
    values = {
        "stage": "multi-view",
        "key": training,
        "evaluation": evaluation,
        "evaluated_on": DATASET,
        "metrics": {"psnr": float(number), "lpips": None},
        "card": f"# Training {number}",
        "registered": stamp("run"),
    }
    return registry.add(name, **{**values, **changes})


def move(registry: ModelRegistry, number: int, alias: str = "production", **more: Any) -> None:
    registry.move_alias("heads", alias, number, reason=f"to {number}", moved=stamp(), **more)


def test_versions_are_numbered_and_kept(any_store: ArtifactStore) -> None:
    """A registered training reads back as it was stored; one that is registered again keeps its number."""
    registry = ModelRegistry(any_store)
    first, second, again = add(registry, 1), add(registry, 2), add(registry, 1)
    assert (first.number, second.number, again) == (1, 2, first)
    assert ModelRegistry(any_store).get("heads").versions == (first, second)
    assert (first.dataset, first.metrics, first.registered.flow_run) == (DATASET, {"psnr": 1.0, "lpips": None}, "run")
    assert first.pipeline != second.pipeline
    assert (registry.names(), registry.get("others").versions) == (["heads"], ())


def test_an_alias_has_a_history(any_store: ArtifactStore) -> None:
    """The last move tells the version; one to the same version changes nothing, one from another version is refused."""
    registry = ModelRegistry(any_store)
    for number in (1, 2):
        add(registry, number)
    move(registry, 1, only_from=None)
    move(registry, 1)
    move(registry, 2, only_from=1)
    with pytest.raises(AliasMoved, match="alias production of model heads: expected version 1, found 2"):
        move(registry, 1, only_from=1)
    model = registry.get("heads")
    assert [(each.version, each.reason) for each in model.aliases["production"]] == [(1, "to 1"), (2, "to 2")]
    assert (model.at("production"), model.at("staging")) == (model.version(2), None)
    assert (model.aliases_of(1), model.aliases_of(2)) == ([], ["production"])


def test_names_of_models(any_store: ArtifactStore) -> None:
    """A version is found by its number, by an alias, and by an alias of the default model; other names are errors."""
    registry = ModelRegistry(any_store)
    first, second = add(registry, 1), add(registry, 2)
    move(registry, 1)
    found = [registry.find(text, "heads") for text in ("heads@2", "heads@production", "production")]
    assert found == [("heads", second), ("heads", first), ("heads", first)]
    assert registry.find("heads@1", "others") == ("heads", first)
    with pytest.raises(StoreError, match=r"model 'staging': expected .* found 2 versions and the aliases heads@prod"):
        registry.find("staging", "heads")
    with pytest.raises(StoreError, match="model heads@3: expected a registered version, found 1 to 2"):
        registry.find("heads@3", "heads")
    with pytest.raises(StoreError, match="found none of others"):
        registry.find("production", "others")
    with pytest.raises(StoreError, match="expected up to 64 lower-case letters"):
        registry.find("../heads@1", "heads")


def test_the_pipeline_of_a_version_is_verified(any_store: ArtifactStore) -> None:
    """Its folder has the files of the training; a changed byte is found before they are used."""
    registry = ModelRegistry(any_store)
    version = add(registry, 1)
    assert (registry.open(version) / "unet" / "weights.bin").read_bytes() == b"\1"
    with pytest.raises(CorruptArtifact, match="expected the pipeline 000000000000 that was registered"):
        registry.open(version.model_copy(update={"pipeline": "0" * 64}))


def test_a_damaged_pipeline_is_not_used(store: ArtifactStore) -> None:
    """One byte of its weights has changed."""
    registry = ModelRegistry(store)
    version = add(registry, 1)
    weights = store.path("multi-view", version.key) / "pipeline" / "unet" / "weights.bin"
    weights.chmod(0o644)
    damage(store, "multi-view", version.key, "pipeline/unet/weights.bin")
    with pytest.raises(CorruptArtifact, match=r"unet/weights\.bin"):
        registry.open(version)


def test_only_complete_trainings_are_registered(store: ArtifactStore) -> None:
    """A training or evaluation that the store lacks, and one without a pipeline, make no version."""
    registry = ModelRegistry(store)
    with pytest.raises(MissingArtifact, match="multi-view"):
        add(registry, 1, key=key_of("multi-view", 77))
    with pytest.raises(MissingArtifact, match="evaluate"):
        add(registry, 1, evaluation=key_of("evaluate", 77))
    with pytest.raises(StoreError, match="expected a training with a pipeline, found none"):
        add(registry, 1, stage="adapt", key=put(store, "adapt", 1))
    assert registry.names() == []


@pytest.mark.parametrize(
    ("name", "alias", "expected"),
    [
        ("Heads", "production", "model 'Heads': expected up to 64 lower-case"),
        ("", "production", "model '': expected"),
        ("heads", "3", "alias '3': expected .* the first a letter$"),
        ("heads", "a/b", "alias 'a/b': expected"),
    ],
)
def test_invalid_names(store: ArtifactStore, name: str, alias: str, expected: str) -> None:
    """Names are plain, since they name files, and no alias looks like a number."""
    with pytest.raises(StoreError, match=expected):
        ModelRegistry(store).move_alias(name, alias, 1, reason="", moved=stamp())


def test_concurrent_writers_lose_nothing(any_store: ArtifactStore) -> None:
    """Trainings that are registered at once get different numbers, and of moves from one version a single one wins."""
    numbers = range(1, 6)
    trainings = [train(any_store, number) for number in numbers]
    assert len({training for training, _ in trainings}) == len(numbers)
    with ThreadPoolExecutor(len(numbers)) as pool:
        made = list(pool.map(lambda number: add(ModelRegistry(any_store), number).number, numbers))
    assert sorted(made) == list(numbers)
    registry, start = ModelRegistry(any_store), threading.Barrier(len(numbers))
    assert {version.metrics["psnr"] for version in registry.get("heads").versions} == set(map(float, numbers))

    def race(number: int) -> bool:
        start.wait()
        try:
            move(ModelRegistry(any_store), number, only_from=None)
        except AliasMoved:
            return False
        return True

    with ThreadPoolExecutor(len(numbers)) as pool:
        won = list(pool.map(race, numbers))
    moves = registry.get("heads").aliases["production"]
    assert (sum(won), [each.version for each in moves]) == (1, [numbers[won.index(True)]])


def test_answers_of_people(any_store: ArtifactStore) -> None:
    """The last answer to a version and an alias counts; an unknown version gets none."""
    registry = ModelRegistry(any_store)
    add(registry, 1)
    for approved, comment in ((False, "blurred"), (True, "a person looked again")):
        answer = Answer(version=1, alias="production", approved=approved, comment=comment, given=stamp())
        registry.record_answer("heads", answer)
    found = registry.get("heads").answer(1, "production")
    assert found is not None
    assert (found.approved, found.comment) == (True, "a person looked again")
    assert registry.get("heads").answer(1, "staging") is None
    with pytest.raises(StoreError, match="model heads@2"):
        registry.record_answer("heads", answer.model_copy(update={"version": 2}))


def test_an_answer_is_about_one_move(any_store: ArtifactStore) -> None:
    """Once the alias has been moved, back for instance, an earlier approval is no answer to the next question."""
    registry = ModelRegistry(any_store)
    for number in (1, 2):
        add(registry, number)
    move(registry, 1)
    registry.record_answer("heads", Answer(version=2, alias="production", approved=True, given=stamp()))
    assert registry.get("heads").answer(2, "production") is not None
    move(registry, 2)
    move(registry, 1)
    assert registry.get("heads").answer(2, "production") is None


def test_garbage_collection_keeps_versions(any_store: ArtifactStore, tmp_path: Path) -> None:
    """A registered training and its evaluation stay, with all that they were made from, when no run needs them."""
    registry = ModelRegistry(any_store)
    begins = put(any_store, "single-view", 1)
    files = {"pipeline/model_index.json": b"{}"}
    training = put(any_store, "multi-view", 9, {"dataset": DATASET, "single-view": begins}, files)
    version, other = add(registry, 1, key=training), train(any_store, 2)
    register_run(any_store, run_folder(tmp_path), "tiny", {})
    garbage = find_garbage(any_store, 0.0)
    late = add(registry, 2)  # registered after the garbage was found
    assert other == (late.key, late.evaluation)
    remove_garbage(any_store, garbage)
    kept = {begins, version.key, version.evaluation, *other}
    assert kept <= existing(any_store)
    assert {item.key for item in find_garbage(any_store, 0.0).dead} == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text[:-20], "expected the record of a model, found .*; restore it from a copy"),
        (
            lambda text: text.replace("Training 1", "Training 7"),
            "expected the record of a model, found its content does not match its checksum",
        ),
        (
            lambda text: _without_checksum(text, versions=[]),
            ".*aliases.production: expected one of 0 versions, found 1",
        ),
        (lambda text: _without_checksum(text, name="tails"), "expected the record of model heads, found that of tails"),
        (lambda text: _without_checksum(text, schema_version=2), "schema version 2, this software reads up to 1; use"),
        (lambda text: _without_checksum(text, colour="red"), ".*colour: unknown field"),
    ],
    ids=["truncated", "changed", "lost version", "other name", "newer", "unknown field"],
)
def test_a_damaged_file(any_store: ArtifactStore, tmp_path: Path, change: Any, expected: str) -> None:
    """The error names the file, what was found and what to do; nothing is written over it, and no garbage removed."""
    registry = ModelRegistry(any_store)
    add(registry, 1)
    move(registry, 1)
    blobs, name = any_store.backend.blobs, "models/heads.json"
    damaged = change((blobs.get(name) or b"").decode()).encode()
    blobs.put(name, damaged)
    register_run(any_store, run_folder(tmp_path), "tiny", {})
    for read in (
        lambda: registry.get("heads"),
        lambda: add(registry, 2),
        lambda: find_garbage(any_store, 0.0),
    ):
        with pytest.raises(StoreError, match=rf"models/heads\.json: {expected}"):
            read()
    assert blobs.get(name) == damaged


def _without_checksum(text: str, **changes: Any) -> str:
    """The file of a model with other fields, as an older version of the software would write it."""
    found = {**json.loads(text), **changes}
    found.pop("checksum")
    return json.dumps(found)
