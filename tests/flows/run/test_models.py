"""Names of models: which of the shipped one, a folder and a registered version a name stands for."""

from pathlib import Path

import pytest

from spinmeround.flows.run.models import find_model, open_model, registered_model
from spinmeround.storage.artifacts import ArtifactStore, ModelRegistry
from spinmeround.storage.errors import ConfigError, CorruptArtifact, StoreError
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.promotion.params import PromoteParams
from tests.storage.artifacts.test_models import add, move

PROMOTE = PromoteParams(model="heads")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """A store whose model `heads` has two versions, `production` the first; the working folder is empty."""
    store = ArtifactStore(tmp_path / "store")
    for number in (1, 2):
        add(ModelRegistry(store), number)
    move(ModelRegistry(store), 1)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return store


def test_an_alias_and_a_version(store: ArtifactStore) -> None:
    """Both lead to the folder of the version's pipeline."""
    first, second = ModelRegistry(store).get("heads").versions
    assert find_model("production", store, PROMOTE) == first
    assert open_model("production", store, PROMOTE) == store.path("multi-view", first.key) / "pipeline"
    assert open_model("heads@2", store, PromoteParams()) == store.path("multi-view", second.key) / "pipeline"
    assert registered_model("heads@production", store, PromoteParams()) == first


def test_a_folder_and_the_shipped_model(store: ArtifactStore) -> None:
    """A folder is absolute from then on, since a worker reads it."""
    Path("mine").mkdir()
    assert open_model("mine", store, PROMOTE) == Path("mine").absolute()
    assert open_model("embedded", store, PROMOTE) == embedded_weights("multiview")


def test_a_name_that_stands_for_two_models(store: ArtifactStore) -> None:
    """The error says how to write each of them, and both forms work."""
    Path("production").mkdir()
    with pytest.raises(ConfigError, match=r"write \./production for the folder, or heads@production for the alias"):
        open_model("production", store, PROMOTE)
    assert open_model("./production", store, PROMOTE) == Path("production").absolute()
    assert open_model("heads@production", store, PROMOTE) == open_model("heads@1", store, PROMOTE)


def test_a_name_of_nothing(store: ArtifactStore) -> None:
    """The error names what was expected, and what the registry has."""
    with pytest.raises(ConfigError, match=r"--model staging: expected 'embedded', a folder, or an alias .*2 versions"):
        open_model("staging", store, PROMOTE)
    with pytest.raises(ConfigError, match="--model no/where: expected 'embedded'"):
        open_model("no/where", store, PROMOTE)
    with pytest.raises(StoreError, match="heads@7: expected a registered version"):
        registered_model("heads@7", store, PROMOTE)


def test_a_damaged_registry_is_named_before_a_folder_is_looked_for(store: ArtifactStore) -> None:
    """What cannot be read is not taken for an absent model."""
    store.backend.blobs.put("models/heads.json", b"{")
    with pytest.raises(ConfigError, match=r"models/heads\.json: expected the record of a model"):
        open_model("production", store, PROMOTE)


def test_a_damaged_model_is_not_opened(store: ArtifactStore) -> None:
    """Every byte of a version is verified, whoever names it."""
    weights = next((store.path("multi-view", ModelRegistry(store).get("heads").version(1).key)).rglob("weights.bin"))
    weights.chmod(0o644)
    weights.write_bytes(b"?")
    with pytest.raises(CorruptArtifact, match=r"weights\.bin"):
        open_model("production", store, PROMOTE)
