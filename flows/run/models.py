"""Names of models: the one that ships, a folder, or a version in the registry of the run's store."""

from pathlib import Path

from spinmeround.storage.artifacts import ArtifactStore, ModelRegistry, ModelVersion
from spinmeround.storage.errors import ConfigError, StoreError, shortened
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.promotion.params import PromoteParams

EMBEDDED = "embedded"


def find_version(text: str, store: ArtifactStore, promote: PromoteParams) -> ModelVersion:
    """The version that `NAME@VERSION`, `NAME@ALIAS` or an alias of `promote.model` names. Raises StoreError."""
    return ModelRegistry(store).find(text, promote.model)[1]


def registered_model(text: str, store: ArtifactStore, promote: PromoteParams) -> ModelVersion:
    """As `find_version`; every byte of the version is verified. Raises as `open_model`, too."""
    version = find_version(text, store, promote)
    ModelRegistry(store).open(version)
    return version


def find_model(text: str, store: ArtifactStore, promote: PromoteParams) -> Path | ModelVersion:
    """What a model's name stands for: the folder of networks, or a registered version. Reads no weights.

    Raises ConfigError if it stands for nothing, or for both a folder and an alias.
    """
    if text == EMBEDDED:
        return embedded_weights("multiview")
    folder = Path(text).expanduser()
    is_folder, version, problem = folder.is_dir(), None, ""
    try:
        version = None if "/" in text else find_version(text, store, promote)
    except StoreError as error:
        problem = f" ({error})"
    if version is not None and is_folder:
        raise ConfigError(
            f"--model {text}: expected one model, found a folder and a registered one; write ./{text} for the folder, "
            f"or {promote.model}@{text} for the alias"
        )
    if version is None and not is_folder:
        raise ConfigError(
            f"--model {shortened(text, 200)}: expected 'embedded', a folder, or an alias or NAME@VERSION in the "
            f"registry, found none{problem}"
        )
    return folder.absolute() if version is None else version


def open_model(text: str, store: ArtifactStore, promote: PromoteParams) -> Path:
    """The folder of the networks of a model; of a registered version, every byte is verified.

    Raises as `find_model`, and CorruptArtifact or MissingArtifact for a version that the store does not have as it was
    registered.
    """
    found = find_model(text, store, promote)
    return found if isinstance(found, Path) else ModelRegistry(store).open(found)
