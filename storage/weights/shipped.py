"""Weights that ship with the package: purpose, licence, path and fingerprint of each.

`storage/embedded/index.json` is the registry. A fingerprint is the SHA-256 of a file, or of a folder's files and
names; the keys of artifacts contain the fingerprints of the weights that made them. Files with a fingerprint in the
index are checked once per process.
"""

import json
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from spinmeround.storage.errors import SpinMeRoundError, environment_errors, validation_message
from spinmeround.storage.files import write_atomic
from spinmeround.storage.manifests import RelativeName, Sha256
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.weights.fingerprints import fingerprint

_EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"


class EmbeddedWeights(FrozenModel):
    """One entry of the index; `path` is relative to the embedded folder, a file or a folder."""

    name: str
    purpose: str
    licence: str
    path: RelativeName
    sha256: Sha256 | None


_INDEX = TypeAdapter(tuple[EmbeddedWeights, ...])


def list_embedded(folder: Path = _EMBEDDED) -> tuple[EmbeddedWeights, ...]:
    """All entries of the index. Raises SpinMeRoundError if it is missing or broken."""
    path = folder / "index.json"
    try:
        return _INDEX.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SpinMeRoundError(
            f"{path}: expected the index of embedded weights, found {validation_message(error)}; reinstall the package"
        ) from error


@cache
def embedded_weights(name: str, folder: Path = _EMBEDDED) -> Path:
    """File or folder of the embedded weights `name`.

    Raises SpinMeRoundError for an unknown name, missing files, or files with another fingerprint.
    """
    entry = _entry(name, folder)
    path = folder / entry.path
    if not path.exists():
        raise SpinMeRoundError(
            f"embedded weights {name!r}: expected {path}, found nothing; reinstall the package or name other weights"
        )
    if entry.sha256 is not None and (found := fingerprint(path)) != entry.sha256:
        raise SpinMeRoundError(
            f"embedded weights {name!r}: expected the fingerprint {entry.sha256[:12]}, {path} has {found[:12]}; "
            "reinstall the package"
        )
    return path


def record_embedded(name: str, folder: Path = _EMBEDDED) -> EmbeddedWeights:
    """Write the fingerprint of the present files to the index, after they were trained again."""
    entry = _entry(name, folder)
    recorded = entry.model_copy(update={"sha256": fingerprint(folder / entry.path)})
    entries = [recorded if each.name == name else each for each in list_embedded(folder)]
    text = json.dumps([each.model_dump() for each in entries], indent=1, allow_nan=False) + "\n"
    with environment_errors(folder):
        write_atomic(folder / "index.json", text.encode())
    embedded_weights.cache_clear()
    return recorded


def _entry(name: str, folder: Path) -> EmbeddedWeights:
    entries = {entry.name: entry for entry in list_embedded(folder)}
    if name not in entries:
        raise SpinMeRoundError(f"embedded weights {name!r}: expected one of {', '.join(sorted(entries))}")
    return entries[name]
