"""Generators by name: `procedural`, `panohead`, `spherehead`, or any `package.module:factory`.

A factory is called with the options as keyword arguments and returns a `HeadGenerator`. It may have an attribute
`place_options`: the names of the options that locate files or set the speed, and change no head.
"""

import importlib
import inspect
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from pydantic import Field

from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.storage.records import FrozenParams, Options

BUILT_IN = {
    "procedural": "spinmeround.panohead_bridge.procedural:make",
    "panohead": "spinmeround.panohead_bridge.panohead:make",
    "spherehead": "spinmeround.panohead_bridge.panohead:make_spherehead",
}
"""Factories of the generators that have a short name; imported when first used."""

FROM_CHECKOUT = ("panohead", "spherehead")
"""Those that need a checkout and a checkpoint of the user's own."""


class GeneratorConfig(FrozenParams):
    """A generator of heads and its options."""

    name: str = Field(
        default="procedural", description=f"One of {', '.join(BUILT_IN)}, or 'package.module:factory' for your own"
    )
    options: Options = Field(default_factory=dict, description="Options that the generator takes")

    def key_values(self) -> dict[str, Any]:
        """The part of the configuration that enters artifact keys: all options except those that change no head.

        The content behind a path is in the generator's fingerprint, so a checkout or a checkpoint may be moved.
        """
        places: AbstractSet[str] = frozenset()
        with suppress(ValueError):  # not installed on this machine, where nothing is made with it either
            places = getattr(_factory(self.name), "place_options", places)
        values = self.model_dump(mode="json")
        return {**values, "options": {name: value for name, value in values["options"].items() if name not in places}}


def make_generator(config: GeneratorConfig) -> HeadGenerator:
    """The generator that `config` names.

    Raises:
        ValueError: the name is unknown, can't be imported, or makes something that is no HeadGenerator;
            or the options are refused (pydantic's ValidationError is a ValueError).
    """
    factory = _factory(config.name)
    _check_options(config, factory)
    generator = factory(**config.options)
    if not isinstance(generator, HeadGenerator):
        raise ValueError(
            f"generator.name: {config.name!r} made a {type(generator).__name__}, which lacks part of "
            "HeadGenerator; see panohead_bridge.protocol"
        )
    return generator


def _check_options(config: GeneratorConfig, factory: Callable[..., object]) -> None:
    """Raises ValueError that names an option that the factory does not take, or that it requires."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(**config.options)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "none"
        raise ValueError(f"generator.options: {config.name!r}: {error}; it takes {takes}") from error


def _factory(name: str) -> Any:
    """The factory of a name; raises ValueError where there is none."""
    module, colon, factory = BUILT_IN.get(name, name).partition(":")
    if not colon:
        known = ", ".join(map(repr, BUILT_IN))
        raise ValueError(f"generator.name: expected {known} or 'package.module:factory', got {name!r}")
    try:
        return getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"generator.name: {name!r} can't be imported ({error}); check the spelling") from error
