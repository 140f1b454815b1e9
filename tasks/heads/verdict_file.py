"""Verdict files: learned verdicts by path, or by the name of one that ships with the package.

A verdict file is JSON (`models.screening.verdict.LearnedVerdict`). Its SHA-256 is the fingerprint that enters the keys
of the screen stage, so a verdict can move but not change unnoticed.
"""

from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from spinmeround.models.screening.scores import SCORES
from spinmeround.models.screening.verdict import SCHEMA_VERSION, LearnedVerdict
from spinmeround.storage.documents import read_bytes, without_mark
from spinmeround.storage.errors import ConfigError, validation_message
from spinmeround.storage.manifests import stated_version
from spinmeround.storage.weights import embedded_weights

SHIPPED = ("procedural",)
"""Names of the verdicts that ship with the package, each for the generator of this name."""


def verdict_path(name: str) -> Path:
    """The path of a verdict file; `name` is one of SHIPPED or a path."""
    return embedded_weights(f"screening-{name}") if name in SHIPPED else Path(name).expanduser()


def verdict_file(name: str) -> tuple[LearnedVerdict, str]:
    """A verdict and the fingerprint of its file.

    Raises ConfigError for a file that is missing, invalid, of a newer schema, or that reads scores that this software
    does not measure.
    """
    path = verdict_path(name)
    data = read_bytes(path, "a verdict file of 'spinmeround screen calibrate'")
    if (newest := stated_version(data)) > SCHEMA_VERSION:
        raise ConfigError(
            f"verdict {path}: schema version {newest}, this software reads up to {SCHEMA_VERSION}; use a newer version"
        )
    try:
        found = LearnedVerdict.model_validate_json(without_mark(data))
    except ValidationError as error:
        raise ConfigError(
            f"verdict {path}: expected a file written by 'spinmeround screen calibrate', found "
            f"{validation_message(error)}; calibrate again"
        ) from error
    if unknown := sorted(set(found.scores) - {score.name for score in SCORES}):
        raise ConfigError(
            f"verdict {path}: expected scores that this version measures, found {', '.join(unknown)}; calibrate again"
        )
    return found, sha256(data).hexdigest()


def verdict_fingerprint(name: str) -> str:
    """The fingerprint of a verdict file; empty for no name. Raises ConfigError as `verdict_file`."""
    return verdict_file(name)[1] if name else ""
