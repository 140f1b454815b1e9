"""`spinmeround models`: what the commands print and change."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.cli.generate import checked_model
from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.storage.artifacts import ArtifactStore, ModelRegistry
from spinmeround.storage.errors import ConfigError
from tests.storage.artifacts.test_models import add, move


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store whose model `heads` has two versions, `production` the first."""
    store = ArtifactStore(tmp_path / "store")
    for number in (1, 2):
        add(ModelRegistry(store), number)
    move(ModelRegistry(store), 1)
    return store


def models(store: ArtifactStore, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a command on this store, for a profile whose model is `heads`."""
    done = CliRunner().invoke(app, ["models", *arguments, "--store", str(store.root), "--set", "promote.model=heads"])
    return done.exit_code, done.output


def test_the_list_has_aliases_and_the_metric(store: ArtifactStore) -> None:
    """A row for each version; the metric is that which promotion goes by."""
    status, output = models(store, "list")
    header, first, second = output.splitlines()
    assert (status, "psnr" in header) == (0, True)
    assert first.split()[:3] == ["heads@1", "production", "1.0000"]
    assert second.split()[:2] == ["heads@2", "2.0000"]


def test_an_empty_registry_says_what_to_do(tmp_path: Path) -> None:
    """It is no error."""
    (tmp_path / "store").mkdir()
    status, output = models(ArtifactStore(tmp_path / "store"), "list")
    assert (status, "none in" in output, "models promote" in output) == (0, True, True)


def test_a_version_is_shown_with_its_card_and_history(store: ArtifactStore) -> None:
    """By its alias or number; an unknown one is an error in one line."""
    status, output = models(store, "show", "production")
    assert (status, "# Training 1" in output, "to 1" in output) == (0, True, True)
    assert "no alias has pointed to it" in models(store, "show", "heads@2")[1]
    status, output = models(store, "show", "heads@3")
    assert (status, output.count("\n"), "expected a registered version, found 1 to 2" in output) == (2, 1, True)


def test_an_alias_is_moved_by_hand(store: ArtifactStore) -> None:
    """Back to an earlier version, with a comment that stays."""
    assert models(store, "alias", "heads@2", "production", "-m", "sharper")[0] == 0
    status, output = models(store, "alias", "heads@1", "production", "-m", "blurred after all")
    assert (status, "heads@1" in output) == (0, True)
    moves = ModelRegistry(store).get("heads").aliases["production"]
    assert [(each.version, each.reason) for each in moves][1:] == [(2, "sharper"), (1, "blurred after all")]


def test_a_damaged_model_gets_no_alias(store: ArtifactStore) -> None:
    """The bytes of a version are verified before an alias leads to it."""
    weights = next(store.path("multi-view", ModelRegistry(store).get("heads").version(2).key).rglob("weights.bin"))
    weights.chmod(0o644)
    weights.write_bytes(b"?")
    status, output = models(store, "alias", "heads@2", "production")
    assert (status, "weights.bin" in output) == (2, True)
    assert len(ModelRegistry(store).get("heads").aliases["production"]) == 1


def test_answers_are_recorded(store: ArtifactStore) -> None:
    """The last one counts, for the alias that it names."""
    assert models(store, "approve", "heads@2", "--refuse", "-m", "teeth")[0] == 0
    found = ModelRegistry(store).get("heads").answer(2, "production")
    assert found is not None
    assert (found.approved, found.comment) == (False, "teeth")
    status, output = models(store, "approve", "heads@2", "--alias", "staging")
    assert (status, "heads@2 as staging" in output) == (0, True)
    model = ModelRegistry(store).get("heads")
    assert [model.answer(2, alias) is not None for alias in ("staging", "production", "other")] == [True, True, False]
    assert models(store, "approve", "heads@2", "--alias", "3")[0] == 2


def test_a_model_is_named_for_a_flow(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are absolute, registered names stay, and one that names nothing is refused before anything starts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    options = RunOptions(store=str(store.root), overrides=["promote.model=heads"])
    assert [checked_model(options, name) for name in (None, "mine", "production", "heads@2")] == [
        None,
        str(tmp_path / "mine"),
        "production",
        "heads@2",
    ]
    with pytest.raises(ConfigError, match="--model staging: expected 'embedded', a folder"):
        checked_model(options, "staging")
