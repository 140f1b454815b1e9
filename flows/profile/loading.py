"""Loading of profiles: TOML files, `extends` and overrides of single fields."""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spinmeround.flows.profile.model import Profile
from spinmeround.storage.documents import read_text
from spinmeround.storage.errors import ConfigError, field_message, one_line, shortened, validation_message

PROFILES = Path(__file__).parents[1] / "profiles"
"""Folder of the profiles that ship with the package."""


def load_profile(name: str, overrides: Sequence[str] = ()) -> Profile:
    """Load a profile by name or path and apply overrides of the form `section.field=value`, with values as in TOML.

    Raises ConfigError for an unknown profile, or an unknown, invalid or contradictory field.
    """
    values = _read(_find(name))
    for override in overrides:
        _override(values, override)
    return validate_profile(values, source=f"profile {name}")


def validate_profile(values: Mapping[str, Any], *, source: str) -> Profile:
    """Build a profile from nested values. Raises ConfigError that names the first two invalid fields."""
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            validation_message(error, lambda problem: f"{source}: {_explain(problem)}", separator="\n")
        ) from error


def profile_names() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def _find(name: str) -> Path:
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not _is_file(path):
        raise ConfigError(
            f"profile {shortened(repr(name), 200)}: expected one of {', '.join(profile_names())}, or the path of a "
            ".toml file; found none"
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that may not be searched
        return False


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a profile, on top of those of the profile that it extends."""
    try:
        values = tomllib.loads(read_text(path, "a TOML file"))
    except ConfigError as error:
        raise ConfigError(f"profile {error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: invalid TOML or date
        raise ConfigError(f"profile {path}: expected a TOML file: {one_line(error)}") from error
    if path in seen:
        raise ConfigError(f"profile {path}: 'extends' forms a cycle")
    base = values.pop("extends", None)
    merged = _merged(_read(_find(str(base)), (*seen, path)), values) if base else values
    return merged | {"name": values.get("name", path.stem)}


def complete(values: dict[str, Any]) -> dict[str, Any]:
    """All values of a profile of which some are given; `values` is changed.

    The others are those of the profile that `extends` names, by default of the shipped one of the same name; those of
    a section without fields, too. The list `set` has overrides, which come last. Raises ConfigError if there is no such
    profile and fields are missing.
    """
    base, overrides = values.pop("extends", None), values.pop("set", None) or []
    if not isinstance(overrides, list) or not all(isinstance(each, str) for each in overrides):
        raise ConfigError(
            f"set: expected a list of texts such as 'mesh.level=9.5', got {shortened(repr(overrides), 80)}"
        )
    if base is None and values.get("name") in profile_names():
        base = values["name"]
    if base is not None:
        values = _merged(_read(_find(str(base))), {name: value for name, value in values.items() if value != {}})
    elif missing := [name for name in Profile.model_fields if name not in values]:
        raise ConfigError(
            f"profile: expected all sections, or a field 'extends' or 'name' that names the profile which has the "
            f"others ({', '.join(profile_names())}, or a .toml file); {missing[0]} is missing"
        )
    for override in overrides:
        _override(values, override)
    return values


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` merged into `base`, table by table; an empty table replaces the one in `base`."""
    both = {
        name: _merged(base[name], value)
        if isinstance(base.get(name), dict) and isinstance(value, dict) and value
        else value
        for name, value in over.items()
    }
    return {**base, **both}


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The nested values of overrides of the form `section.field=value`. Raises ConfigError for another form."""
    values: dict[str, Any] = {}
    for override in overrides:
        _override(values, override)
    return values


def _override(values: dict[str, Any], override: str) -> None:
    """Apply `section.field=value` to `values` in place."""
    field, equals, text = override.partition("=")
    *sections, last = field.strip().split(".")
    if not equals or not all([*sections, last]):
        raise ConfigError(f"--set {override}: expected section.field=value, for instance mesh.level=9.5")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section!r} is a single value and has no fields")
    values[last] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    """A TOML value; text that is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _explain(problem: ErrorDetails) -> str:
    """One line for one of pydantic's problems; unknown fields come with the fields that exist."""
    return _unknown(problem["loc"]) if problem["type"] == "extra_forbidden" else field_message(problem)


def _unknown(location: Sequence[Any]) -> str:
    """One line for an unknown field: its name, the closest existing one and all that are allowed there."""
    model: type[BaseModel] = Profile
    for part in location[:-1]:
        if isinstance(part, int):  # an element of a list, whose field has set `model`
            continue
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        inner = next(iter(get_args(inner)), None) if get_origin(inner) is tuple else inner
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    field, allowed = ".".join(str(part) for part in location), list(model.model_fields)
    near = get_close_matches(str(location[-1]), allowed, n=1)
    hint = f"; did you mean {'.'.join([*map(str, location[:-1]), near[0]])}?" if near else ""
    where = ".".join(str(part) for part in location[:-1]) or "a profile"
    return f"{field}: unknown field{hint} ({where} has {', '.join(allowed)})"
