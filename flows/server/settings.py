"""Prefect's own settings: it reads them when it is imported, from variables of the environment and from its files."""

import importlib
import io
import os
import re
from contextlib import redirect_stderr

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from spinmeround.flows.server.environment import without_password
from spinmeround.storage.errors import ConfigError, one_line, shortened

_FOLLOWS_FROM_ANOTHER = "default_factory_not_called"
"""pydantic's error of a default that depends on a field with an error."""

_FILES = ("PREFECT_PROFILES_PATH",)
"""Variables that name a file of settings."""


def import_prefect() -> None:
    """Import Prefect; raises ConfigError, which begins with the variable, for a setting that Prefect refuses."""
    try:
        with redirect_stderr(io.StringIO()):  # Prefect prints what it refuses before it raises
            importlib.import_module("prefect.context")
    except ValidationError as error:
        problem = next(each for each in error.errors(include_url=False) if each["type"] != _FOLLOWS_FROM_ANOTHER)
        expected = problem["msg"][0].lower() + problem["msg"][1:]
        raise ConfigError(f"{_name(problem, error.title)}: {expected}; correct it or remove it") from error
    except ValueError as error:  # a list or map that is no JSON, a file that is no TOML
        place = next((f"{name}={os.environ[name]}" for name in _FILES if name in os.environ), "Prefect's settings")
        raise ConfigError(f"{place}: {one_line(error)}") from error


def _name(problem: ErrorDetails, settings: str) -> str:
    """The variable that holds the refused value; else, for a value in a file, the group of settings and the field."""
    field = "_".join(str(part) for part in problem["loc"])
    same = [name for name, value in os.environ.items() if name.startswith("PREFECT_") and value == problem["input"]]
    same.sort(key=lambda name: not name.lower().endswith(field.lower()))  # some settings have other names, too
    if same:
        return f"{same[0]}={shortened(without_password(os.environ[same[0]]), 80)}"
    return f"Prefect's {re.sub(r'Settings$', '', settings)} setting {field} (in prefect.toml, .env or a profile)"
